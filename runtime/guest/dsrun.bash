# dsrun.bash - completion of dsrun's options, their values, and the program's name in bash
# shellcheck shell=bash
_dsrun() {
	local cur=${COMP_WORDS[COMP_CWORD]} opt=${COMP_WORDS[COMP_CWORD - 1]} i
	# "--mode=demand" arrives as three words, because = breaks words
	if [ "$cur" = "=" ]; then
		cur=""
	elif [ "$opt" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
		opt=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	COMPREPLY=()
	# Behind the program's name, its own completion.
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--)
			i=$((i + 1))
			break
			;;
		--service | --mode | --args | --socket | --forward | --net | --device | --policy | --intercept)
			i=$((i + 1))
			[ "${COMP_WORDS[i]}" = "=" ] && i=$((i + 1))
			;;
		-*) ;;
		*) break ;;
		esac
	done
	if [ "$i" -lt "$COMP_CWORD" ] && declare -F _command_offset >/dev/null; then
		_command_offset "$i"
		return
	fi
	case $opt in
	--net) mapfile -t COMPREPLY < <(compgen -W "host guest" -- "$cur") ;;
	--intercept) mapfile -t COMPREPLY < <(compgen -W "dispatch ptrace" -- "$cur") ;;
	--mode) mapfile -t COMPREPLY < <(compgen -W "eager demand" -- "$cur") ;;
	--pid | --stop) mapfile -t COMPREPLY < <(cd /proc && compgen -G "[1-9]*" | grep "^$cur") ;;
	--socket | --forward | --policy | --check-policy | --trace | --summary)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--service | --args) ;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--service --mode --args --required --pid --stop --list --socket --forward --net --device --list-devices --policy --check-policy --trace --summary --intercept --help --version" -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		fi
		;;
	esac
}
complete -F _dsrun dsrun
