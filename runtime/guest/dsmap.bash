# dsmap.bash - completion of dsmap's options and their values in bash
# shellcheck shell=bash
_dsmap() {
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
	--split) mapfile -t COMPREPLY < <(compgen -W "none prot attr" -- "$cur") ;;
	--from | --out | --diff | --socket)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--root)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--stats --diff --out --from --json --split --join --root --agent --socket --help --version" -- "$cur")
		else
			mapfile -t COMPREPLY < <(cd /proc && compgen -G "[1-9]*" | grep "^$cur")
		fi
		;;
	esac
}
complete -F _dsmap dsmap
