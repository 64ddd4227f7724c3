# dshost.bash - completion of dshost's commands, options and VMs in bash
# shellcheck shell=bash
_dshost() {
	local cur=${COMP_WORDS[COMP_CWORD]} opt=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]:-} options
	# "--name=x" arrives as three words, because = breaks words
	if [ "$cur" = "=" ]; then
		cur=""
	elif [ "$opt" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
		opt=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	COMPREPLY=()
	case $opt in
	--policy | --qmp | check-policy)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--run-dir | --services)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--max-shadows)
		mapfile -t COMPREPLY < <(compgen -W "16 128 1024" -- "$cur")
		return
		;;
	--start-rate)
		mapfile -t COMPREPLY < <(compgen -W "0 10 100 1000" -- "$cur")
		return
		;;
	--ram-at)
		mapfile -t COMPREPLY < <(compgen -W "0x100000000" -- "$cur")
		return
		;;
	--window)
		mapfile -t COMPREPLY < <(compgen -W "64M 256M 1G 8G" -- "$cur")
		return
		;;
	--name) return ;;
	end | stop)
		local vms
		vms=$(dshost status --json 2>/dev/null | sed -nE 's/^ {6}"name": ?"([^"]*)".*/\1/p')
		[ "$opt" = end ] && vms=$(sed 's|$|/|' <<<"$vms")
		mapfile -t COMPREPLY < <(compgen -W "$vms" -- "$cur")
		return
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
	mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}
complete -F _dshost dshost
