#!/bin/sh
# In the place of ssh: `agent.sh HOST COMMAND...` runs a command in the network namespace of a host, under its host name.
# A file `mounts-HOST` beside the hostfile is run first: what it mounts, only this host sees.
# shellcheck disable=SC2016  # that shell is to expand it
name=eh-${1##*.}
shift
exec ip netns exec "$name" unshare --uts --mount sh -c '
  hostname "$0" && { [ ! -f "$HOSTS_FOLDER/mounts-$0" ] || . "$HOSTS_FOLDER/mounts-$0"; } && exec sh -c "$1"' "$name" "$*"
