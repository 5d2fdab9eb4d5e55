"""Two hosts on a wire, in one process: no root, no kernel network."""

import lwipy

with lwipy.Stack() as server, lwipy.Stack() as client:
    lwipy.wire(server.add_interface(ipv4="10.0.0.1/24"), client.add_interface(ipv4="10.0.0.2/24"))
    listener = server.create_server(("10.0.0.1", 80))
    with listener, client.create_connection(("10.0.0.1", 80)) as one:
        other, address = listener.accept()
        with other:
            other.sendall(b"hello from a network no kernel sees")
            print(one.recv(100), "from", one.getpeername())
