/* notify.h - tells systemd how a daemon does */
#ifndef HOST_NOTIFY_H
#define HOST_NOTIFY_H

/**
 * notify_systemd() - sd_notify(3), which is one datagram; without systemd ($NOTIFY_SOCKET) there is nobody to tell
 * @state: "READY=1", "STOPPING=1"
 */
void notify_systemd(const char *state);

#endif
