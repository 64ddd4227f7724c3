# complete.bash - what the completions of all programs begin with; install puts it in front of each
# shellcheck shell=bash

# Sets cur, the word that is completed, and opt, the option that it may be a value of: variables of the caller.
# "--join=head" arrives as three words, because = breaks words.
_ds_word() {
	cur=${COMP_WORDS[COMP_CWORD]} opt=${COMP_WORDS[COMP_CWORD - 1]}
	if [ "$cur" = "=" ]; then
		cur=""
	elif [ "$opt" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
		opt=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	COMPREPLY=()
}
_ds_words() { # _ds_words WORDS: one of these
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}
_ds_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}
_ds_folders() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -d -- "$cur")
}
_ds_processes() {
	mapfile -t COMPREPLY < <(cd /proc && compgen -G "[1-9]*" | grep "^$cur")
}

