# dscontainer.bash - completion of dscontainer's options in bash
# shellcheck shell=bash
_dscontainer() {
	# shellcheck disable=SC2034 # _ds_word and the others use it
	local cur opt
	_ds_word
	case $opt in
	--policy | --socket) _ds_files ;;
	--name) ;;
	*) _ds_words "--name --socket --policy --verbose --help --version" ;;
	esac
}
complete -F _dscontainer dscontainer
