# The rule for the archive that nginx, or the shared object, is linked with. It is built again when its sources or nginx's
# configuration have changed, and not whenever make is run: `make install` of nginx is run as root, who has no cargo.
# The shared object's table of modules is nginx's here, not the crate's own.

phantom_token_sources=$(find $ngx_addon_dir/src $ngx_addon_dir/build.rs $ngx_addon_dir/Cargo.toml \
    $ngx_addon_dir/../src $ngx_addon_dir/../build.rs $ngx_addon_dir/../Cargo.toml $ngx_addon_dir/../Cargo.lock \
    -type f | tr '\n' ' ')

cat << END >> $NGX_MAKEFILE

$phantom_token_archive: $NGX_AUTO_CONFIG_H $phantom_token_sources
	NGINX_SOURCE_DIR="\$\$PWD" NGINX_BUILD_DIR="\$\$(cd $NGX_OBJS && pwd)" \\
	    $phantom_token_cargo build --release --no-default-features \\
	    --manifest-path $ngx_addon_dir/Cargo.toml --target-dir $NGX_OBJS/phantom_token
	touch $phantom_token_archive

END
