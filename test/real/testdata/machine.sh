#!/bin/busybox sh
# What runs on the machine of machine_test.go: whenever a stick is put in, both
# sources are mirrored to it.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo 1 >/proc/sys/kernel/printk
while read -r module; do insmod "/modules/$module" || echo "insmod $module: failed"; done </modules/list
while :; do
	until device=$(ls /dev/sd? 2>/dev/null | head -n 1) && [ -n "$device" ] && mount -t vfat "$device" /stick 2>/dev/null; do
		sleep 0.1
	done
	echo "stick: in"
	for source in /first /second; do
		sealift mirror -q --no-space-check $source /stick/media >/dev/null
		code=$?
		echo "$source: exit $code"
		[ $code = 0 ] || break
	done
	umount /stick 2>/dev/null || umount -l /stick
	echo "stick: unmounted"
	while [ -e "$device" ]; do sleep 0.1; done
	echo "stick: out"
done
