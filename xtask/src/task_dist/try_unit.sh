# Runs in a booted system: starts and stops rb-check@.service on a whole and on a damaged store, and a service with the
# drop-in. Ends at the first failure; the last line of the log says that there was none.
exec >/try-unit.log 2>&1
set -eux
store=/var/lib/kv
unit=rb-check@$(systemd-escape --path $store).service
rb format $store --size 64MiB --slot-bytes 64KiB
echo value | rb put $store key -
# A store of another user's, with mode 0600.
useradd --system kv
chown kv $store
stat -c '%U %a' $store

systemctl start "$unit"
test "$(systemctl is-active "$unit")" = active
journalctl -u "$unit" -o cat | grep '"state":"clean"'
systemctl stop "$unit"
test "$(systemctl is-active "$unit" || true)" = inactive

# A service that embeds a store, with the drop-in of the package.
mkdir -p /etc/systemd/system/embeds.service.d
sed -e 's/dev-nvme1n1/var-lib-kv/' /usr/share/doc/raw-block/examples/raw-block.conf \
    > /etc/systemd/system/embeds.service.d/raw-block.conf
cat > /etc/systemd/system/embeds.service <<'END'
[Service]
Type=oneshot
User=kv
ExecStart=/bin/sh -c 'echo locked $(ulimit -l), files $(ulimit -n), groups $(id -Gn); rb get /var/lib/kv key'
END
systemctl daemon-reload
systemctl start embeds.service
test "$(systemctl is-active "$unit")" = active
# A container may have lower limits than the unit asks for, so only what systemd asked for is compared.
test "$(systemctl show -p LimitMEMLOCK --value embeds.service)" = infinity
test "$(systemctl show -p LimitNOFILE --value embeds.service)" = 65536
sleep 1 # until the journal has the last lines
journalctl -u embeds.service -o cat | grep 'locked .* groups kv raw-block'
journalctl -u embeds.service -o cat | grep -x value
systemctl stop "$unit"

# A damaged store: the check fails with the code of fsck, the service starts in spite of that.
printf damaged! | dd of=$store bs=1 seek=100 conv=notrunc status=none
systemctl start "$unit" && exit 1
test "$(systemctl is-failed "$unit")" = failed
systemctl show -p ExecMainStatus "$unit" | grep -x ExecMainStatus=4
journalctl -u "$unit" -o cat | grep '"state":"damaged"'
systemctl start embeds.service
echo '== all tried'
