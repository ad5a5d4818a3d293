"""Hostile databases: what a mistake or malice makes of honest ones, from a seed; and the known traps, written out."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator

NUMBERS = (
    b"0", b"-1", b"1", b"7", b"8", b"63", b"64", b"65", b"255", b"256", b"1785", b"1786", b"65535",
    b"100000000", b"4294967295", b"4294967296", b"-2147483648", b"18446744073709551616", b"1e400", b"-1e400",
    b"1e-400", b"nan", b"inf", b"0.0", b"1" + b"0" * 400, b"9" * 5000, b"0x7FFFFFFF", b"1.5", b"",
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TOKEN = re.compile(rb"\w+|[^\w\s]")

Mutation = Callable[[random.Random, bytes], bytes]


def flip_bytes(rng: random.Random, text: bytes) -> bytes:
    out = bytearray(text)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def blow_up_numbers(rng: random.Random, text: bytes) -> bytes:
    return _replace(rng, text, _NUMBER, lambda _: rng.choice(NUMBERS))


def swap_tokens(rng: random.Random, text: bytes) -> bytes:
    tokens = [m[0] for m in _TOKEN.finditer(text)]
    return _replace(rng, text, _TOKEN, lambda _: rng.choice(tokens)) if tokens else text


def drop_tokens(rng: random.Random, text: bytes) -> bytes:
    return _replace(rng, text, _TOKEN, lambda _: b"")


def lengthen_tokens(rng: random.Random, text: bytes) -> bytes:
    return _replace(rng, text, _TOKEN, lambda token: token * rng.choice([2, 100, 20_000]))


def _replace(
    rng: random.Random, text: bytes, what: re.Pattern[bytes], new: Callable[[bytes], bytes]
) -> bytes:
    places = [m.span() for m in what.finditer(text)]
    for start, end in sorted(rng.sample(places, min(len(places), rng.choice([1, 1, 1, 2, 5]))), reverse=True):
        text = text[:start] + new(text[start:end]) + text[end:]
    return text


def delete_lines(rng: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    start = rng.randrange(len(lines))
    del lines[start : start + rng.choice([1, 1, 2, 10])]
    return b"".join(lines)


def repeat_lines(rng: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    start = rng.randrange(len(lines))
    part = lines[start : start + rng.choice([1, 1, 2, 10])]
    at = rng.randrange(len(lines) + 1)
    return b"".join(lines[:at] + part * rng.choice([1, 1, 2, 50, 2000]) + lines[at:])


def cut(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text))]


def splice(rng: random.Random, text: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(text)), rng.randrange(len(text))))
    at = rng.randrange(len(text))
    return text[:at] + text[start:end] + text[at:]


MUTATIONS: tuple[Mutation, ...] = (
    blow_up_numbers, blow_up_numbers, blow_up_numbers, flip_bytes, swap_tokens, swap_tokens, drop_tokens,
    lengthen_tokens, delete_lines, repeat_lines, cut, splice,
)  # fmt: skip


def mutated(rng: random.Random, text: bytes) -> bytes:
    """One to three mutations of an honest file."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        text = rng.choice(MUTATIONS)(rng, text) or b"\n"
    return text


def traps(size: float) -> Iterator[tuple[str, bytes]]:
    """(file name, content): every way to hang, to fill the memory or to crash that we know of.

    `size` 1 makes the large ones as large as a file may be.
    """
    mega = int(size * 1_000_000)
    yield "empty.dbc", b""
    yield "zeros.dbc", bytes(10_000)
    yield "garbage.dbc", random.Random(1).randbytes(50_000)
    yield "garbage.arxml", random.Random(2).randbytes(50_000)
    yield "utf16.dbc", dbc("8", "0|8@1+ (1,0)").decode().encode("utf-16")
    yield "brackets.dbc", b"(" * mega
    yield "tokens.dbc", b"1 " * (2 * mega)
    for n, length in enumerate(NUMBERS):
        yield f"length-{n}.dbc", dbc(length.decode(), "0|8@1+ (1,0)")
        yield f"broken-line-{n}.dbc", dbc(f"\n{length.decode()}\n", "0|8@1+\n(1,0)")
        yield f"scale-{n}.dbc", dbc("8", f"0|8@1+ ({length.decode()},0)")
        yield f"offset-{n}.dbc", dbc("8", f"0|8@1+ (1,{length.decode()})")
        yield f"start-{n}.dbc", dbc("8", f"{length.decode()}|8@1+ (1,0)")
        yield f"bits-{n}.dbc", dbc("8", f"0|{length.decode()}@0- (1,0)")
        yield f"page-{n}.dbc", dbc("8", "0|8@1+ (1,0)", f"m{length.decode()}")
        yield f"pages-{n}.dbc", dbc("8", "0|8@1+ (1,0)", "m0") + mux_values("S", f"0-{length.decode()}")
        yield f"length-{n}.kcd", kcd(f'length="{length.decode()}"', 'offset="0"')
        yield f"offset-{n}.kcd", kcd('length="8"', f'offset="{length.decode()}"')
        yield f"length-{n}.sym", sym(f"Len={length.decode()}", "ID=100h")
        yield f"id-{n}.sym", sym("Len=8", f"ID=0h-{length.decode()}h")
    yield "pages-split.dbc", dbc("8", "0|8@1+ (1,0)", "m0") + mux_values("S", "0-\n4000000000")
    yield "many-ids.sym", sym("Len=8", "ID=00000000h-1FFFFFFFh").replace(b"Type=Standard", b"Type=Extended")
    yield "nested-pages.dbc", nested_pages(8)
    yield "own-page.dbc", nested_pages(2).replace(b"S1 S0", b"S1 S1")
    yield "pages-in-a-ring.dbc", nested_pages(3).replace(b"S1 S0 ", b"S1 S2 ")
    yield "long-name.dbc", dbc("8", "0|8@1+ (1,0)").replace(b" M:", b" " + b"M" * (3 * mega) + b":")
    yield "long-comment.dbc", dbc("8", "0|8@1+ (1,0)") + b'CM_ "' + b'\\"' * mega + b'";\n'
    yield "open-comment.dbc", dbc("8", "0|8@1+ (1,0)") + b'CM_ "' + b"\\" * (3 * mega)
    yield "many-messages.dbc", b"".join(b"BO_ %d M%d: 8 E\n\n" % (n, n) for n in range(mega // 5))
    yield "many-signals.dbc", many_signals(mega // 50)
    yield "many-big-signals.dbc", many_signals(mega // 300, b"1785")
    yield "many-choices.dbc", dbc("8", "0|64@1+ (1,0)") + b"VAL_ 256 S " + b"".join(
        b'%d "c" ' % n for n in range(mega // 2)
    ) + b";\n"  # fmt: skip
    yield "laughs.kcd", laughs(kcd('length="8"', 'offset="0"'))
    yield "laughs.arxml", laughs(b"<AUTOSAR>&i;</AUTOSAR>")
    yield "deep.kcd", b"<a>" * (mega // 2)
    yield "deep.arxml", b"<AR-PACKAGES>" * (mega // 10) + b"</AR-PACKAGES>" * (mega // 10)
    yield (
        "attributes.kcd",
        b"<NetworkDefinition " + b"".join(b'a%d="" ' % n for n in range(mega // 3)) + b"/>",
    )
    yield "too-big.dbc", b"\n" * 9_000_000


def dbc(length: str, signal: str, mux: str = "") -> bytes:
    """One message with one signal; `mux`: in a page of a multiplexer."""
    head = f'VERSION ""\n\nBU_: E\n\nBO_ 256 M: {length} E\n'
    selector = ' SG_ X M : 8|8@1+ (1,0) [0|0] "" E\n' if mux else ""
    return f'{head}{selector} SG_ S {mux}: {signal} [0|0] "" E\n\n'.encode()


def mux_values(signal: str, pages: str) -> bytes:
    return f"SG_MUL_VAL_ 256 {signal} X {pages};\n".encode()


def nested_pages(depth: int) -> bytes:
    """A multiplexer in every page of a multiplexer in every page of ...: 256**depth pages."""
    lines = ['VERSION ""', "BU_: E", f"BO_ 256 M: {depth + 1} E", ' SG_ S0 M : 0|8@1+ (1,0) [0|0] "" E']
    lines += [f' SG_ S{n} m0M : {8 * n}|8@1+ (1,0) [0|0] "" E' for n in range(1, depth + 1)]
    lines += [f"SG_MUL_VAL_ 256 S{n} S{n - 1} 0-255;" for n in range(1, depth + 1)]
    return "\n".join(lines).encode() + b"\n"


def many_signals(n: int, length: bytes = b"64") -> bytes:
    signals = b"".join(b' SG_ S%d : %d|8@1+ (1,0) [0|0] "" E\n' % (k, k % 500) for k in range(n))
    return b'VERSION ""\nBU_: E\nBO_ 256 M: ' + length + b" E\n" + signals


def kcd(length: str, offset: str) -> bytes:
    return (
        '<NetworkDefinition xmlns="http://kayak.2codeornot2code.org/1.0"><Document/><Bus name="B">'
        f'<Message id="0x100" name="M" {length}><Signal name="S" {offset} {length}><Value slope="1"/></Signal>'
        "</Message></Bus></NetworkDefinition>"
    ).encode()


def sym(length: str, frame_id: str) -> bytes:
    return (
        'FormatVersion=6.0 // x\nTitle="t"\n\n{SENDRECEIVE}\n\n[M]\n'
        f"{frame_id}\nType=Standard\n{length}\nVar=S unsigned 0,8\n"
    ).encode()


def laughs(document: bytes) -> bytes:
    """Entities that hold ten of the one before: a gigabyte from a kilobyte of XML."""
    names = b"abcdefghi"
    entities = b'<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY %c "%s">' % (new, b"&%c;" % old * 10)
        for old, new in itertools.pairwise(names)
    )  # fmt: skip
    body = document.replace(b"<Document/>", b"<Document>&i;</Document>")
    return b'<?xml version="1.0"?><!DOCTYPE NetworkDefinition [' + entities + b"]>" + body
