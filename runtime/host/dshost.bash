# dshost.bash - completion of dshost's commands, options and VMs in bash
# shellcheck shell=bash
_dshost() {
	local cur opt command=${COMP_WORDS[1]:-} options
	_ds_word
	case $opt in
	--policy | --qmp | check-policy) _ds_files && return ;;
	--run-dir | --services) _ds_folders && return ;;
	--max-shadows) _ds_words "16 128 1024" && return ;;
	--start-rate) _ds_words "0 10 100 1000" && return ;;
	--ram-at) _ds_words "0x100000000" && return ;;
	--window) _ds_words "64M 256M 1G 8G" && return ;;
	--name) return ;;
	end | stop)
		local vms
		vms=$(dshost status --json 2>/dev/null | sed -nE 's/^ {6}"name": ?"([^"]*)".*/\1/p')
		[ "$opt" = end ] && vms=$(sed 's|$|/|' <<<"$vms")
		_ds_words "$vms" && return
		;;
	esac
	case $command in
	serve) options="--policy --services --max-shadows --start-rate --window --dev-mem --kvm-files --verbose --run-dir" ;;
	run) options="--name --ram-at --print --run-dir" ;;
	attach) options="--qmp --name --run-dir" ;;
	status) options="--json --run-dir" ;;
	end | stop) options="--run-dir" ;;
	check-policy) options="" ;;
	*)
		options="serve run attach status end stop check-policy"
		[[ $cur == -* ]] && options="--run-dir --policy --services --max-shadows --start-rate --window --dev-mem --kvm-files --verbose --name --ram-at --print --qmp --json --help --version"
		;;
	esac
	_ds_words "$options"
}
complete -F _dshost dshost
