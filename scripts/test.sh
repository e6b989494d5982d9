#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test.sh [STAGE...] : installs what is missing, builds, and runs every test; with names of stages, those alone (after
# dependencies). docs/testing.md says what each proves. Build directories under build/ are kept and used again.
#
# With CI set in the environment, what cannot be run here counts as a failure, but for clang-format 14 and Wine, which not every
# system has: the report names them. The last line is "N passed, M failed".
# With VKL_TEST_ROWS=1, stages that run some rows of the long tables run all of them (docs/testing.md, "Rows").
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
all_stages=(format release plain swiftshader validation sanitizers threads mingw package)
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=("${all_stages[@]}")

passed=0 failed=0
report=()

say() {
    printf '\n== %s\n' "$*"
}
pass() {
    passed=$((passed + 1))
}
fail() {
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$*"
}
check() { # WHAT COMMAND...: one check that is not a Meson test
    local what=$1
    shift
    if "$@"; then
        pass
    else
        fail "$what"
    fi
}
without() { # what one can do without, in CI too
    printf 'SKIPPED: %s\n' "$*"
    report+=("$(printf '%-12s skipped: %s' "" "$*")")
}
cannot() { # what this machine cannot run
    if [ -n "${CI:-}" ]; then
        fail "$* (in CI, what is skipped has failed)"
    else
        without "$@"
    fi
}

build() { # DIRECTORY OPTIONS...: set up once, again when the options have changed
    local directory=$1
    shift
    if [ "$(cat "$directory/options.txt" 2>/dev/null)" != "$*" ]; then
        rm -rf "$directory"
        mkdir -p "$directory"
        meson setup "$directory" "$@" >"$directory/setup.txt" 2>&1 || {
            cat "$directory/setup.txt"
            return 1
        }
        echo "$*" >"$directory/options.txt"
    fi
    ninja -C "$directory" --quiet | grep -v '^ninja: no work to do' || [ "${PIPESTATUS[0]}" -eq 0 ]
}

run_tests() { # DIRECTORY ARGUMENTS OF MESON TEST...: adds its counts
    local directory=$1 log=$1/test-output.txt status=0 ok bad skipped
    shift
    meson test -C "$directory" --print-errorlogs "$@" >"$log" 2>&1 || status=$?
    grep -vE '^(ninja|Found ninja|Cleaning|\[[0-9]+/[0-9]+\] |>>>|Full log|Skipped: +0|Timeout: +0|Expected Fail: +0|Unexpected Pass: +0|$)' "$log" || true
    ok=$(awk '/^(Ok|Expected Fail): /{n += $NF} END {print n + 0}' "$log")
    bad=$(awk '/^(Fail|Unexpected Pass|Timeout): /{n += $NF} END {print n + 0}' "$log")
    skipped=$(awk '/^Skipped: /{n += $NF} END {print n + 0}' "$log")
    if [ "$skipped" -gt 0 ]; then
        cannot "$skipped of meson test $*: $(awk '/ SKIP /{printf "%s ", $2}' "$log")"
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        fail "meson test $*: status $status"
    elif [ "$ok" -eq 0 ] && [ "$bad" -eq 0 ] && [ "$skipped" -eq 0 ]; then
        fail "meson test $*: no test was run"
    fi
}

# All features are asked for, so that one that cannot be built fails instead of being left out. A compiler's warning is an error
# here, and here alone.
features=(-Dtests=enabled -Dtools=enabled -Dexamples=enabled -Dcsv=enabled -Ddocs=enabled)
staging=$root/build/stage
build_release() {
    build build/test "${features[@]}" -Dvulkan=enabled -Dwerror=true --prefix="$staging" --libdir=lib
}

stage_format() {
    local formatter=''
    for name in clang-format-14 clang-format; do
        if command -v "$name" >/dev/null && "$name" --version | grep -q 'version 14\.'; then
            formatter=$name
            break
        fi
    done
    if [ -z "$formatter" ]; then
        # others format differently; Debian 12 has 14, newer systems may have none
        without "clang-format 14 is not here: formatting is not checked"
        return
    fi
    local files
    mapfile -t files < <(find bench examples include lib shaders tests tools -name '*.[ch]')
    check "clang-format" "$formatter" --dry-run -Werror "${files[@]}"
}

stage_release() {
    build_release || return 1
    run_tests build/test
}

stage_plain() {
    build build/plain "${features[@]}" -Dvulkan=disabled -Dwerror=true || return 1
    run_tests build/plain
}

# What repeats, under a tool or on a slow device, what the stage "release" has run whole.
few=(--no-suite command --no-suite series)
[ "${VKL_TEST_ROWS:-}" != 1 ] || few=()

rig=$root/build/rigs/swiftshader
stage_swiftshader() {
    build_release || return 1
    if ! tests/rigs/swiftshader.sh "$rig"; then
        cannot "SwiftShader could not be fetched"
        return
    fi
    VKL_TEST_ROWS=${VKL_TEST_ROWS:-5} VK_ICD_FILENAMES=$rig/vk_swiftshader_icd.json \
        run_tests build/test --setup swiftshader --suite operator
}

stage_validation() {
    build_release || return 1
    # the newer layer where it can be had; the system's own may miss some hazards between dispatches
    local setup=validation before=$failed
    if tests/rigs/swiftshader.sh "$rig"; then
        export VK_LAYER_PATH=$rig
    elif grep -qs '"api_version": *"1\.[0-3]\.' /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json; then
        setup=validation_1_3
    fi
    run_tests build/test --setup "$setup" --suite planted
    if [ "$failed" -ne "$before" ]; then
        echo "The layer does not find a planted fault: a run under it would prove nothing."
    else
        VKL_TEST_ROWS=${VKL_TEST_ROWS:-3} run_tests build/test --setup "$setup" --suite vulkan --suite floor "${few[@]}"
    fi
    unset VK_LAYER_PATH
}

stage_sanitizers() {
    build build/sanitizers "${features[@]}" -Dvulkan=enabled -Dbuildtype=debugoptimized -Doptimization=1 -Db_sanitize=address,undefined \
        -Db_lundef=false || return 1
    local reports=$root/build/sanitizers/reports
    rm -rf "$reports"
    mkdir -p "$reports"
    tests/rigs/kept-lavapipe.sh build/sanitizers/lavapipe || return 1
    # Criterion's child processes end after their verdict: what they leak fails nothing, so every report goes to a file.
    VKL_TEST_ROWS=${VKL_TEST_ROWS:-10} VK_ICD_FILENAMES=$root/build/sanitizers/lavapipe/icd.json \
        ASAN_OPTIONS=log_path=$reports/asan:detect_leaks=1:detect_stack_use_after_return=1 \
        UBSAN_OPTIONS=log_path=$reports/ubsan:halt_on_error=1:print_stacktrace=1 \
        run_tests build/sanitizers --timeout-multiplier 3 --wrapper "$root/tests/rigs/twice-if-hung.sh 120" --suite host --suite cpu \
        --suite vulkan "${few[@]}"
    check "sanitizers" no_reports "$reports"
}

stage_threads() {
    build build/threads -Dtests=auto -Dtools=disabled -Dexamples=disabled -Dcsv=disabled -Dvulkan=enabled -Ddefault_library=static \
        -Dbuildtype=debug -Doptimization=g -Db_sanitize=thread -Db_lundef=false || return 1
    local reports=$root/build/threads/reports
    rm -rf "$reports"
    mkdir -p "$reports"
    tests/rigs/kept-lavapipe.sh build/threads/lavapipe || return 1
    # without random addresses, which this sanitizer's map of memory does not always bear
    VK_ICD_FILENAMES=$root/build/threads/lavapipe/icd.json \
        TSAN_OPTIONS=log_path=$reports/tsan:suppressions=$root/tests/rigs/drivers.tsan:second_deadlock_stack=1:exitcode=66 \
        run_tests build/threads --wrapper "setarch -R" --suite threads
    check "ThreadSanitizer" no_reports "$reports"
}

stage_mingw() {
    local rig=$root/build/rigs/mingw exports
    mkdir -p build
    if ! tests/rigs/mingw.sh "$rig" >build/mingw-rig.txt 2>&1; then
        tail -n 5 build/mingw-rig.txt
        cannot "what a build for Windows needs could not be made"
        return
    fi
    # not optimised: what is proven is that it compiles, links and runs
    build build/mingw --cross-file "$root/tests/rigs/mingw-w64.ini" --cross-file "$rig/machine.ini" -Dtests=auto -Dtools=disabled -Dcsv=disabled \
        -Dexamples=enabled -Dvulkan=enabled -Dwerror=true -Doptimization=g || return 1
    exports=$(x86_64-w64-mingw32-objdump -p build/mingw/lib/libvklstm-0.dll |
        awk '/Ordinal.Name Pointer. Table/ {inside = 1; next} inside && NF == 0 {exit} inside && $NF !~ /^(vkl_|Table)/ {print $NF}')
    check "exports of the DLL" test -z "$exports"
    [ -z "$exports" ] || echo "exported, and not vkl_*:" $exports
    if ! grep -q exe_wrapper "$rig/machine.ini"; then
        without "Wine is not here: programs for Windows are built and not run"
        return
    fi
    export WINEPREFIX=$root/build/wine WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml= WINEPATH=$root/build/mingw/lib
    run_tests build/mingw --suite portable --suite threads
    check "a program with the DLL" "$(sed -n "s/^exe_wrapper = '\(.*\)'/\1/p" "$rig/machine.ini")" build/mingw/examples/infer.exe cpu
    unset WINEPREFIX WINEDEBUG WINEDLLOVERRIDES WINEPATH
}

no_reports() { # DIRECTORY: prints what is there, and fails if there is anything
    local files
    mapfile -t files < <(find "$1" -type f)
    [ ${#files[@]} -eq 0 ] || {
        cat "${files[@]}"
        return 1
    }
}

check_headers() {
    local header language status=0 more
    for header in include/vklstm/*.h; do
        for language in c:gcc:c11 c:gcc:c17 c++:g++:c++11 c++:g++:c++17 c++:g++:c++20 c:clang:c11 c:clang:c17 c++:clang++:c++11 \
            c++:clang++:c++20; do
            IFS=: read -r kind compiler standard <<<"$language"
            command -v "$compiler" >/dev/null || continue
            [ "$kind" = c ] && more=() || more=(-Wold-style-cast -Wuseless-cast -Wzero-as-null-pointer-constant)
            [[ $compiler != clang* ]] || more=(-Wno-unknown-warning-option "${more[@]}")
            echo "#include \"vklstm/$(basename "$header")\"" |
                "$compiler" -x "$kind" -std="$standard" -Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wundef \
                    "${more[@]}" -Werror -Iinclude -fsyntax-only - || {
                echo "$header alone is not accepted as $standard by $compiler"
                status=1
            }
        done
    done
    return $status
}

check_archive() { # a static library's names are everybody's; tests/link looks at Vulkan's and volk's, and at the shared library
    local names
    names=$(nm -g --defined-only build/test/lib/libvklstm.a | awk 'NF == 3 && $3 !~ /^vkl_/ {print $3}' | sort -u)
    [ -z "$names" ] || {
        echo "global, and not vkl_*:" $names
        return 1
    }
}

check_guest() { # a guest reads no environment, opens no file and starts no thread but where the API is asked for it; prints and ends nothing
    local calls
    calls=$(nm -A -u build/test/lib/libvklstm.a 2>/dev/null | awk '
        BEGIN {
            split("system_posix.c.o:fopen system_posix.c.o:open table.c.o:uselocale pool.c.o:pthread_create vk_loader.c.o:dlopen", list)
            for (i in list) allowed[list[i]]
            asked = "^(f?open|openat|fdopen|freopen|creat|tmpfile|mkstemp|uselocale|setlocale|dlopen|pthread_create|thrd_create|" \
                "(secure_)?getenv|setenv|putenv|environ|printf|puts|putchar|perror|std(in|out|err)|abort|_?exit|quick_exit|atexit|" \
                "signal|sigaction|raise|system|popen|v?fork|exec[lv].*|posix_spawn.*|s?rand|s?random|socket)$"
        }
        {
            name = $NF
            sub(/64$/, "", name)
            split($1, part, ":")
            if (name ~ asked && !((part[2] ":" name) in allowed)) print part[2] ":" name
        }')
    [ -z "$calls" ] || {
        echo "a guest does not call these:" $calls
        return 1
    }
}

check_allocation() { # host memory comes from the context's callbacks: lib/memory.c alone may call the C library's functions
    local calls
    calls=$(nm -A -u build/test/lib/libvklstm.a 2>/dev/null |
        awk '$NF ~ /^(malloc|calloc|realloc|reallocarray|free|cfree|strdup|strndup|aligned_alloc|posix_memalign|memalign|asprintf|vasprintf|getline|open_memstream)$/ && $1 !~ /:memory\.c\.o:$/ {print $1 $NF}')
    [ -z "$calls" ] || {
        echo "past lib/memory.h:" $calls
        return 1
    }
}

consume_installed() {
    local consumer=$root/build/consumer warnings=(-std=c11 -Wall -Wextra -pedantic -Werror)
    rm -rf "$staging" "$consumer"
    mkdir -p "$consumer/static"
    meson install -C build/test --no-rebuild --quiet || return 1
    export PKG_CONFIG_PATH=$staging/lib/pkgconfig
    cc "${warnings[@]}" tests/consumers/consumer.c -o "$consumer/shared" $(pkg-config --cflags --libs vklstm) || return 1
    LD_LIBRARY_PATH=$staging/lib "$consumer/shared" || return 1
    # a directory with the archive alone, searched first
    c++ -std=c++11 "${warnings[@]:1}" tests/consumers/consumer.cpp -o "$consumer/shared_cpp" $(pkg-config --cflags --libs vklstm) || return 1
    LD_LIBRARY_PATH=$staging/lib "$consumer/shared_cpp" || return 1
    cp "$staging/lib/libvklstm.a" "$consumer/static/"
    cc "${warnings[@]}" tests/consumers/consumer.c -o "$consumer/static/consumer" -L"$consumer/static" \
        $(pkg-config --cflags --libs --static vklstm) || return 1
    "$consumer/static/consumer" || return 1
    if ldd "$consumer/static/consumer" | grep -E 'libvklstm|libvulkan'; then
        echo "the static consumer loads these"
        return 1
    fi
    LD_LIBRARY_PATH=$staging/lib "$staging/bin/vklstm" info
}

consume_cmake() { # from another place than it was installed to
    local directory=$root/build/consumer-cmake
    rm -rf "$directory"
    mkdir -p "$directory/moved" "$directory/source"
    cp -r "$staging/include" "$staging/lib" "$directory/moved/"
    cp tests/consumers/CMakeLists.txt tests/consumers/consumer.c tests/consumers/consumer.cpp "$directory/source/"
    # in place of the files that were installed, not beside them
    mv "$staging" "$staging.away"
    local status=0
    {
        cmake -G Ninja -S "$directory/source" -B "$directory/build" -DCMAKE_PREFIX_PATH="$directory/moved" &&
            cmake --build "$directory/build" &&
            (cd "$directory/build" && ctest --output-on-failure)
    } >"$directory/log.txt" 2>&1 || {
        status=1
        cat "$directory/log.txt"
    }
    mv "$staging.away" "$staging"
    return $status
}

consume_subproject() {
    local directory=$root/build/subproject
    mkdir -p "$directory/source/subprojects"
    cp tests/consumers/meson.build tests/consumers/consumer.c tests/consumers/consumer.cpp "$directory/source/"
    ln -sfn "$root" "$directory/source/subprojects/vklstm"
    if [ ! -f "$directory/build/build.ninja" ]; then
        meson setup "$directory/build" "$directory/source" >"$directory/setup.txt" 2>&1 || {
            cat "$directory/setup.txt"
            return 1
        }
    fi
    ninja -C "$directory/build" --quiet && "$directory/build/consumer_c" && "$directory/build/consumer_cpp"
}

stage_package() {
    build_release || return 1
    check "public headers stand alone" check_headers
    check "API reference" ninja -C build/test --quiet reference
    check "names of the static library" check_archive
    check "host memory by the callbacks alone" check_allocation
    check "no environment, files, threads or output of its own accord" check_guest
    check "installed library" consume_installed
    check "CMake package" consume_cmake
    check "Meson subproject" consume_subproject
}

say dependencies
start=$SECONDS
scripts/install-dependencies.sh test
for stage in "${stages[@]}"; do
    if [[ " ${all_stages[*]} " != *" $stage "* ]]; then
        echo "test.sh: no stage \"$stage\"; there are: ${all_stages[*]}" >&2
        exit 2
    fi
    say "$stage"
    begin=$SECONDS before_passed=$passed before_failed=$failed
    # not in a condition of its own: bash would ignore set -e inside
    "stage_$stage" || fail "$stage"
    report+=("$(printf '%-12s %3d passed, %d failed, %4d s' "$stage" $((passed - before_passed)) $((failed - before_failed)) $((SECONDS - begin)))")
done

printf '\n'
printf '%s\n' "${report[@]}"
printf 'in %d s\n' $((SECONDS - start))
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
