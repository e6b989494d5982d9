# SPDX-License-Identifier: MIT
"""Writes a header that renames everything that volk declares or defines.

volk defines a variable for every Vulkan function, under the function's own name. In a static library they would take the place
of the functions of a program that links libvulkan, or clash with a volk of the program's own. So each name gets a prefix.

usage: rename_volk.py OUTPUT DEPFILE COMPILER [ARGUMENT...]

The compiler says which volk.h and volk.c it includes; the names are read from those files' text, whatever their version.
"""
import re
import subprocess
import sys

PREFIX = 'vkl_volk_'


def find_files(compiler):
    source = '#include <volk.c>\n'
    done = subprocess.run(compiler + ['-x', 'c', '-E', '-'], input=source, stdout=subprocess.PIPE, text=True, check=True)
    paths = set(re.findall(r'^#\s*(?:line\s+)?\d+\s+"(.*\bvolk\.[ch])"', done.stdout, re.MULTILINE))
    return sorted(path.replace('\\\\', '\\') for path in paths)


def main():
    output, depfile, compiler = sys.argv[1], sys.argv[2], sys.argv[3:]
    paths = find_files(compiler)
    names = set()
    for path in paths:
        with open(path, encoding='utf-8') as file:
            names.update(re.findall(r'\b(?:vk|volk)[A-Z]\w*', file.read()))
    if not {'vkGetInstanceProcAddr', 'volkInitialize', 'volkGenLoadDeviceTable'} <= names:
        sys.exit('rename_volk.py: the files {} do not look like volk.h and volk.c'.format(paths))
    with open(output, 'w', encoding='utf-8') as file:
        file.write('/* Made by rename_volk.py. */\n')
        for name in sorted(names):
            file.write('#define {} {}{}\n'.format(name, PREFIX, name))
    with open(depfile, 'w', encoding='utf-8') as file:
        file.write('{}: {}\n'.format(output, ' '.join(path.replace(' ', '\\ ') for path in paths)))


main()
