/* agent_bar.h - the VM's window as the guest has it: the second BAR of an ivshmem device
 *
 * A guest may have several such devices.  Ours has a header at its beginning that dshost has written (runtime/wire/window.h).  No
 * driver is needed: sysfs has a file for the BAR, resource2, which root can open and anybody who has it can map.  Its memory is mapped
 * uncached as far as the guest's page table goes (UC-), which keeps the order of accesses that programs expect; KVM on Intel ignores it.
 */
#ifndef GUEST_AGENT_BAR_H
#define GUEST_AGENT_BAR_H

/**
 * agent_bar_open() - Opens the window
 *
 * It is looked for anew each time: devices come and go.
 *
 * Return: a descriptor for reading and writing, the caller's; -ENODEV (there is none); -errno.
 */
int agent_bar_open(void);

#endif
