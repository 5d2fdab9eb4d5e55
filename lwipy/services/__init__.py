"""Services: what a network needs besides its stack, each an ordinary user of one.

`lwipy.services.dhcp`   addresses for guests (RFC 2131)
`lwipy.services.dns`    names for guests: the stack's own, theirs, and the hosts table

A service's protocol is written without I/O (bytes and the time in, bytes out); one thin class joins it to endpoints.
Nothing is imported here, so that using one service never costs, or needs, what another one does.
"""
