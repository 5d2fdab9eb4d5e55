# The words that a test's script is written in; sent to the guest before it. Messages to the test begin with @@.

# step NAME COMMAND...: runs the command, frames its output, tells its exit code and its seconds.
step() {
    name=$1
    shift
    echo "@@ begin $name"
    started=$(hundredths)
    "$@"
    code=$?
    taken=$(($(hundredths) - started))
    printf '\n@@ end %s %d %d.%02d\n' "$name" $code $((taken / 100)) $((taken % 100))
    return $code
}

hundredths() {
    read -r up _ </proc/uptime
    # The leading 1 keeps 08 and 09 from being taken for octal numbers.
    echo $((${up%.*} * 100 + 1${up#*.} - 100))
}

# nic [MAC]: has the drivers take the devices they find, and brings eth0 up.
nic() {
    for device in /sys/bus/pci/devices/*; do echo "${device##*/}" >/sys/bus/pci/drivers_probe; done
    [ -z "$1" ] || ip link set eth0 address "$1"
    ip link set eth0 up
    ip -o link show eth0
}

# lease [HOSTNAME]: an address by DHCP, kept (renewed in time) by a udhcpc in the background.
lease() {
    : >/run/lease
    udhcpc -i eth0 -n -t 20 -T 2 -p /run/udhcpc.pid -O mtu -O domain -x hostname:"${1:-guest}" || return
    lease_events
}

# lease_events: what the server said at each event so far; lease_event COMMAND...: runs it and waits for one more.
lease_events() { cat /run/lease; }
lease_event() {
    before=$(wc -l </run/lease)
    "$@" || return
    for _ in $(seq 100); do
        [ "$(wc -l </run/lease)" -gt "$before" ] && tail -n 1 /run/lease && return
        sleep 0.1
    done
    return 1
}
renew() { lease_event kill -USR1 "$(cat /run/udhcpc.pid)"; }
release() { lease_event kill -USR2 "$(cat /run/udhcpc.pid)"; }

# download URL FILE. (wget's own -T crashes in Debian 12's busybox, hence timeout.)
download() { timeout 900 wget -q -O "$2" "$1"; }

# noise FILE BYTES: a file of random bytes, NULs among them.
noise() { head -c "$2" /dev/urandom >"$1"; }

# upload METHOD URL FILE [half-close]: sends the file's bytes as the body of a request, prints the whole reply, and
# succeeds if its status is 2xx. (wget --post-file would stop at the first NUL, hence nc.) The connection stays open
# both ways until the server closes it; with half-close the guest says the end of its side after the last byte, and
# sends 1 KB at a time, nc's own way.
upload() {
    address=${2#http://}
    path=/${address#*/}
    address=${address%%/*}
    port=${address##*:}
    [ "$port" != "$address" ] || port=80
    {
        printf '%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "$1" "$path" "$address"
        printf 'Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n' "$(stat -c %s "$3")"
    } >/tmp/request
    if [ "$4" = half-close ]; then
        cat /tmp/request "$3" | timeout 900 nc "${address%:*}" "$port" >/tmp/reply
    else
        : >/tmp/reply
        timeout 900 nc "${address%:*}" "$port" -e sh -c 'cat /tmp/request "$1" && cat >/tmp/reply' sh "$3"
    fi
    cat /tmp/reply
    head -n 1 /tmp/reply | grep -q '^HTTP/1\.[01] 2'
}

# echoes HOST BYTES [COUNT]: pings with so many bytes of data; the summary tells the loss.
echoes() { ping -c "${3:-5}" -i 0.2 -W 5 -s "$2" "$1"; }

# listen PORT COMMAND...: accepts one connection, whose input and output are the command's, and waits for its end.
# "@@ listening PORT" tells the test that it can connect.
listen() {
    port=$1
    shift
    nc -l -p "$port" -e "$@" &
    listener=$!
    wanted=$(printf ':%04X 00000000' "$port")
    until cat /proc/net/tcp /proc/net/tcp6 | grep -q "$wanted"; do
        kill -0 $listener || return
        sleep 0.02
    done
    echo "@@ listening $port"
    wait $listener
}
