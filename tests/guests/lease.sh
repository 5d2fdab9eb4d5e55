#!/bin/sh
# udhcpc calls this with an event and what the server said; every event is noted for the steps to wait on.
case $1 in
deconfig)
    ip addr flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
    [ "$1" = renew ] || ip addr flush dev "$interface"
    ip addr replace "$ip/$mask" broadcast + dev "$interface"
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    {
        [ -z "$domain" ] || echo "search $domain"
        for server in $dns; do echo "nameserver $server"; done
    } >/etc/resolv.conf
    [ -z "$hostname" ] || hostname "$hostname"
    ;;
esac
echo "$1 ip=$ip/$mask router=$router dns=$dns mtu=$mtu domain=$domain hostname=$hostname server=$serverid lease=$lease" \
    >>/run/lease
