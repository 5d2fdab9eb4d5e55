#!/bin/sh
# The guest's first process: takes its orders, a shell script, from the serial console and runs them.
export PATH=/bin HOME=/
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
# No echo, and lines that end as they were written: what a test reads is what the guest said.
stty -echo -onlcr
hostname guest
ip link set lo up
# The drivers are loaded, but the NIC is left alone until the orders say `nic`: an emulator may save its state here,
# and each machine that goes on from it may have another address.
echo 0 >/sys/bus/pci/drivers_autoprobe
modprobe -a $(cat /etc/modules)
echo "@@ ready"
awk '$0 == "@@ go" { exit } { print }' >/orders
sh /orders
code=$?
echo
echo "@@ done $code"
poweroff -f
