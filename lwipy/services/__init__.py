"""Services: what a network needs besides its stack, each an ordinary user of one.

`lwipy.services.dhcp`   addresses for guests (RFC 2131)
`lwipy.services.dns`    names for guests: the stack's own, theirs, and the hosts table
`lwipy.services.share`  a folder over HTTP (needs the extra `lwipy[share]`)

DHCP and DNS are written without I/O (bytes and the time in, bytes out); one thin class each joins them to
endpoints. Nothing is imported here, so that no service needs the libraries of another.
"""
