"""A clock of your own: what was lost is sent again, and the seconds pass at once."""

from lwipy import Event, wire
from lwipy.testing import VirtualTime

with VirtualTime() as time:
    one, other = time.stack(), time.stack()
    nic = one.add_interface(ipv4="10.0.0.1/24")
    wire(nic, other.add_interface(ipv4="10.0.0.2/24"))
    listener, client = one.tcp(), other.tcp()
    listener.bind(("", 80))
    listener.listen()
    client.connect(("10.0.0.1", 80))
    time.run(lambda: listener.info.queued)
    server = listener.accept()
    nic.link_up = False
    client.send(b"sent into the void, and again")
    time.run(limit=3)
    nic.link_up = True
    took = time.run(lambda: Event.READABLE in server.ready())
    print(server.recv(100), f"arrived {3 + took:.2f} virtual seconds after it was sent")
