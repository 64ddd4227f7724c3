# dscontainer.bash - completion of dscontainer's options in bash
# shellcheck shell=bash
_dscontainer() {
	local cur=${COMP_WORDS[COMP_CWORD]} opt=${COMP_WORDS[COMP_CWORD - 1]}
	# "--name=x" arrives as three words, because = breaks words
	if [ "$cur" = "=" ]; then
		cur=""
	elif [ "$opt" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
		opt=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	COMPREPLY=()
	case $opt in
	--policy | --socket)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--name) ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--name --socket --policy --verbose --help --version" -- "$cur") ;;
	esac
}
complete -F _dscontainer dscontainer
