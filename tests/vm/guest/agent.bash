# agent.bash - in a guest whose programs are to have shadows: dsagent, and questions to the host's part of a test
# shellcheck shell=bash
# Sourced from the top of the tree, with BIN set.

# agent_start [OPTION...]: sets agent, whose log is /run/dsagent.log; returns when it can be asked.
agent_start() {
	[ "${DS_VM:-}" = 1 ] || { echo "${0##*/}: a test or a measurement starts this in a VM of its own" >&2; exit 1; }
	modprobe vmw_vsock_virtio_transport || exit 2
	"$BIN/dsagent" "$@" >/run/dsagent.log 2>&1 &
	agent=$!
	for _ in $(seq 600); do
		if [ -S /run/dsagent/socket ] || ! kill -0 $agent 2>/dev/null; then break; fi
		sleep 0.1
	done
}

# agent_end STATUS: ends it; unless STATUS is 0 its last words are shown, as a comment of TAP.
agent_end() {
	[ "$1" = 0 ] || tail -n 40 /run/dsagent.log | sed 's/^/# dsagent: /'
	kill $agent
	wait $agent
}

# agent_accel: says whether the guest is emulated.
agent_accel() {
	if grep -q TCG /proc/cpuinfo; then echo "accel is emulation"; else echo "accel is KVM"; fi
}

# ask_open: the port to tests/vm/host_port.py becomes descriptor 5.
ask_open() {
	local port
	for port in /sys/class/virtio-ports/*; do
		if [ "$(cat "$port/name")" = vm.host ]; then exec 5<>"/dev/${port##*/}"; fi
	done
}

# ask QUESTION: of the host's part; says its answer.
ask() {
	local line=
	echo "$*" >&5
	IFS= read -r -t 120 line <&5
	echo "$line"
}
