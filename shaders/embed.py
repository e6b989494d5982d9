#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks SPIR-V modules with spirv-val and writes them as a C table, vkl_shaders[], one entry for each kernel.

usage: embed.py SPIRV_VAL OUTPUT.c KERNEL.spv...
"""

import pathlib
import struct
import subprocess
import sys


def words(path):
    data = path.read_bytes()
    return struct.unpack("=%dI" % (len(data) // 4), data)


def main():
    spirv_val, output, *modules = sys.argv[1:]
    lines = ["/* Made by shaders/embed.py. */", '#include "vk/shaders.h"', ""]
    table = []
    for module in map(pathlib.Path, modules):
        if subprocess.run([spirv_val, "--target-env", "vulkan1.1", str(module)]).returncode:
            return "%s does not pass spirv-val" % module
        name = module.name.split(".")[0]
        code = ["0x%08x" % word for word in words(module)]
        lines.append("static const uint32_t %s[] = {" % name)
        lines += ["    " + ", ".join(code[i : i + 10]) + "," for i in range(0, len(code), 10)]
        lines += ["};", ""]
        table.append("    [VKL_KERNEL_%s] = {%s, sizeof(%s)}," % (name.upper(), name, name))
    lines += ["const VklShader vkl_shaders[VKL_KERNEL_COUNT] = {", *table, "};", ""]
    pathlib.Path(output).write_text("\n".join(lines))
    return None


if __name__ == "__main__":
    sys.exit(main())
