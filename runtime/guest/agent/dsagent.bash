# dsagent.bash - completion of dsagent's options in bash
# shellcheck shell=bash
_dsagent() {
	# shellcheck disable=SC2034 # _ds_word and the others use it
	local cur opt
	_ds_word
	case $opt in
	--socket | --host) _ds_files ;;
	--limit) _ds_words "25% 50% 75%" ;;
	--shadows) _ds_words "16 256 1024" ;;
	--retry) _ds_words "1 5 30" ;;
	*) _ds_words "--socket --limit --shadows --retry --root-only --users-window --host --verbose --help --version" ;;
	esac
}
complete -F _dsagent dsagent
