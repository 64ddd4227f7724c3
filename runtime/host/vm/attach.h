/* attach.h - a running VM gets the devices that shadows need, through its monitor
 *
 * Theory of operation
 *
 * Two kinds of VM are attached to: one whose devices have lost their back end (the daemon or the VM's process ended), and
 * one that has shared RAM and none of the devices.  QEMU reconnects a vhost-user device to nothing, so a device is always
 * new: an old one is unplugged (device_del, which the guest has to agree to; chardev-remove), a new chardev is connected to the
 * sockets that the daemon has made for it, and the device is plugged in (device_add).
 *
 *	pc    any slot of its PCI bus
 *	q35   a pcie-root-port: that of the old device, or one that is free.  Its root bus takes nothing at run time
 *
 * Before any of it the monitor tells the layout of the VM's memory (mtree.h); private memory is refused here.  The table goes to
 * the daemon, whose VM process compares it with the one that vhost-user brings once the guest's driver has started the
 * device, and refuses where they differ (vmproc.h).
 *
 * The table is read between unplugging and plugging in: `info mtree -f` makes QEMU 7.2 keep an unplugged doorbell's window, and
 * QEMU aborts when a doorbell is plugged in while the window of an older one lingers.
 *
 * A step that fails is undone as far as this made it; the VM runs on.  The doorbell is wanted but not needed: without a
 * second free port the VM is attached without it, and that is said.
 */
#ifndef HOST_ATTACH_H
#define HOST_ATTACH_H

#define ATTACH_TEXT_BYTES 512

/** struct attach_params - What is asked for. */
struct attach_params {
	const char *run_dir;
	const char *qmp;  /* path of the monitor's socket */
	const char *name; /* for the VM; NULL: its own, else vm-PID */
};

/**
 * attach() - Does it
 * @p: see there
 * @text: filled with a line for people, whatever the outcome
 *
 * Blocks: for as long as the guest takes to let go of a device and to start another, up to a minute.
 *
 * Return: exit status: 0; 2 a system error or a VM that cannot have shadows; 4 attached, but without a doorbell, or the guest's
 * driver has not started the device yet; 75 the devices are in use.
 */
int attach(const struct attach_params *p, char text[static ATTACH_TEXT_BYTES]);

#endif
