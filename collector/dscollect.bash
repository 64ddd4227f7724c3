# dscollect.bash - completion of dscollect's options and their values in bash
# shellcheck shell=bash
_dscollect() {
	local cur=${COMP_WORDS[COMP_CWORD]} opt=${COMP_WORDS[COMP_CWORD - 1]}
	# "--join=head" arrives as three words, because = breaks words
	if [ "$cur" = "=" ]; then
		cur=""
	elif [ "$opt" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
		opt=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	COMPREPLY=()
	case $opt in
	--join) mapfile -t COMPREPLY < <(compgen -W "none head full" -- "$cur") ;;
	--db | --config)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--root)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	-p | --pid) mapfile -t COMPREPLY < <(cd /proc && compgen -G "[1-9]*" | grep "^$cur") ;;
	-j | --jobs) mapfile -t COMPREPLY < <(compgen -W "1 2 4 8 16" -- "$cur") ;;
	--timeout) mapfile -t COMPREPLY < <(compgen -W "5 10 30 60" -- "$cur") ;;
	*)
		if [[ $cur == -* || -z $cur ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--db --config --pid --jobs --join --root --keep-runs \
				--timeout --prune --quiet --json --help --version" -- "$cur")
		fi
		;;
	esac
}
complete -F _dscollect dscollect
