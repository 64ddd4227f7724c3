# dsrun.bash - completion of dsrun's options, their values, and the program's name in bash
# shellcheck shell=bash
_dsrun() {
	local cur opt i
	_ds_word
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
	--net) _ds_words "host guest" ;;
	--intercept) _ds_words "dispatch ptrace" ;;
	--mode) _ds_words "eager demand" ;;
	--pid | --stop) _ds_processes ;;
	--socket | --forward | --policy | --check-policy | --trace | --summary) _ds_files ;;
	--service | --args) ;;
	*)
		if [[ $cur == -* ]]; then
			_ds_words "--service --mode --args --required --pid --stop --list --socket --forward --net --device --list-devices --policy --check-policy --trace --summary --intercept --help --version"
		else
			mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		fi
		;;
	esac
}
complete -F _dsrun dsrun
