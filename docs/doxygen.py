#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Doxygen's input filter: the public headers have ordinary comments, and this says which of them document what.

usage: doxygen.py HEADER > what Doxygen reads

A comment that begins a line documents what follows it, and every declaration that follows without an empty line between; one behind code
documents that code; the first of a file the file. `---- Title ----` begins a section and documents nothing. What a convention of the
library names needs no comment: CONVENTIONS. What is left has none, and Doxygen says so. Lines keep their numbers.
"""
import re
import sys

# of functions, structs and enums
CONVENTIONS = [
    (r'\w+_error\(', 'The sentence of the latest failure of a call on this object.'),
    (r'\w+_destroy\(', 'Destroys the object; NULL is accepted.'),
    (r'\w+_desc\(', 'A description with the defaults that its fields name.'),
    (r'\w+_args\(', 'Arguments with the defaults that their fields name.'),
    (r'typedef struct (\w+) \1;', "An object; what is in it is the library's own."),
    (r'typedef struct \w+Desc\b', 'A description. The function of defaults fills it.'),
    (r'typedef struct \w+(Forward|Backward|Step|Args)\b', 'Arguments of a call. The function of defaults fills it.'),
    (r'typedef struct \w+(Sizes|Info|Progress|Result|Stats)\b', 'What a call fills.'),
    (r'typedef struct \w+', 'Its fields say what it is.'),
    (r'typedef enum \w+', 'Its values say what it is.'),
]
# of fields
FIELDS = [
    (r'\bsize_t struct_size;', 'sizeof of the struct; the function of defaults sets it where there is one.'),
    (r'\*(\w+_)?user;', 'Handed to the callback.'),
    (r'\b(Vkl\w+) \w+;', r'See \1.'),
]
CODE = re.compile(r'\s*\*? {4,}')
TOP = re.compile(r'typedef (struct|enum) |VKL_API ')
FIELD = re.compile(r' {4}[A-Za-z].*;\s*$')


def escaped(text):
    """Text in which Doxygen finds no commands and no markup but `code`."""
    lines = []
    for line in text.split('\n'):
        star = re.match(r'\s*\*(?!\*)', line) if lines else None
        head, rest = (star.group(0), line[star.end():]) if star else ('', line)
        if not CODE.match(line) or '@' in line:
            parts = rest.split('`')
            for k in range(0, len(parts), 2 if len(parts) % 2 else 1):
                parts[k] = re.sub(r'([\\@&<>#%"*|~$])', r'\\\1', parts[k])
            rest = '`'.join(parts)
        lines.append(head + rest)
    return '\n'.join(lines)


def one_line(body):
    return ' '.join(re.sub(r'^\s*\*', '', line).strip() for line in body.split('\n')).strip()


def convention(rules, line):
    for pattern, text in rules:
        match = re.search(pattern, line)
        if match:
            return match.expand(text)
    return None


def document_fields(line, shared):
    """A line of a struct: each of its names gets a comment."""
    match = re.match(r'(\s+)((?:const )?(?:struct )?\w+)( \**)(\w+), (.*?);\s*(?:/\*\*< (.*?) \*/)?\s*$', line)
    if match:
        indent, kind, stars, first, rest, text = match.groups()
        text = text or shared
        if text:
            names = [stars + first] + [' ' + name for name in rest.split(', ')]
            return indent + ' '.join('{}{}; /**< {} */'.format(kind, name, text) for name in names)
    if FIELD.match(line):
        text = convention(FIELDS, line) or shared
        if text:
            return '{} /**< {} */'.format(line.rstrip(), text)
    return line


def filtered(text):
    """Marks the comments, line by line; a comment of several lines is moved to its first, and empty lines take the place of the rest."""
    lines, i, out = text.split('\n'), 0, []
    shared, inside, first, fresh = None, False, True, False
    while i < len(lines):
        line, extra = lines[i], 0
        begin = line.find('/*')
        if begin >= 0:
            body = line[begin + 2:]
            while '*/' not in body:
                extra += 1
                body += '\n' + lines[i + extra]
            body, after = body[:body.index('*/')], body[body.index('*/') + 2:]
            before = line[:begin]
            if first:
                out.append('/** \\file' + escaped(body.replace(' SPDX-License-Identifier: MIT', '', 1)) + '*/')
                first = False
                i += extra + 1
                continue
            if re.match(r'\s*----', body):
                shared = None
                out.append(line)
                out.extend(lines[i + 1:i + extra + 1])
                i += extra + 1
                continue
            if not before.strip():
                shared, fresh = escaped(one_line(body)), True
                out.append(before + '/** ' + escaped(body).lstrip() + '*/' + after)
                i += extra + 1
                continue
            line = before + '/**< ' + escaped(one_line(body)) + ' */' + after
        stripped = line.strip()
        if not stripped or stripped.startswith('#'):
            shared, fresh = None, False
        elif not inside and TOP.match(line):
            if not fresh:
                known = convention(CONVENTIONS, line)
                if line.startswith('VKL_API') and shared:
                    known = shared
                if known:
                    line = '/** ' + known + ' */ ' + line
            fresh = False
            if line.rstrip().endswith('{') or '{ ' not in line and '{' in line:
                inside, shared = True, None
        elif inside and line.startswith('}'):
            inside, shared = False, None
        elif inside:
            line = document_fields(line, None if fresh else shared)
            fresh = False
        out.append(line)
        out.extend([''] * extra)
        i += extra + 1
    return '\n'.join(out)


if __name__ == '__main__':
    with open(sys.argv[1], encoding='utf-8') as file:
        sys.stdout.write(filtered(file.read()))
