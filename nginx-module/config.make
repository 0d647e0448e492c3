# The rule for the archive that nginx, or the shared object, is linked with. Cargo knows best whether it is up to date.
# The shared object's table of modules is nginx's here, not the crate's own.

cat << END >> $NGX_MAKEFILE

$phantom_token_archive: phantom_token_archive

.PHONY: phantom_token_archive
phantom_token_archive:
	NGINX_SOURCE_DIR="\$\$PWD" NGINX_BUILD_DIR="\$\$(cd $NGX_OBJS && pwd)" \\
	    $phantom_token_cargo build --release --no-default-features \\
	    --manifest-path $ngx_addon_dir/Cargo.toml --target-dir $NGX_OBJS/phantom_token

END
