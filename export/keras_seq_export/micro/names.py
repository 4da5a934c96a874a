"""The name of a model in C: what a header is called becomes an identifier, which the programs around it must not have yet."""

import os
import re
from pathlib import Path
from typing import Final

from keras_seq import require

_KEYWORDS: Final = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await
    co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
    double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
    new noexcept not not_eq null nullptr operator or or_eq private protected public register reinterpret_cast requires
    restrict return short signed sizeof static static_assert static_cast struct switch template this thread_local throw
    true try typedef typeid typename typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor
    xor_eq
"""
# A header with the name of one of these would hide it.
_HEADERS: Final = """
    alloca arduino assert complex ctype endian errno features fenv float inttypes iso646 limits locale malloc math memory
    setjmp signal stdalign stdarg stdatomic stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string strings tgmath
    threads time types uchar unistd wchar wctype
"""
# Functions and types of C that programs use beside the decoder.
_LIBRARY: Final = """
    abort abs acos acosh asin asinh atan atan2 atanh atexit atof atoi atol atoll bsearch calloc cbrt ceil clearerr clock
    copysign cos cosh ctime difftime div environ erf erfc exit exp exp2 expm1 fabs fclose fdim feof ferror fflush fgetc
    fgetpos fgets fileno floor fma fmax fmin fmod fopen fpclassify fprintf fputc fputs fread free freopen frexp fscanf
    fseek fsetpos ftell fwrite gamma getc getchar getenv gets gmtime hypot ilogb index isalnum isalpha isatty isdigit
    isfinite isinf islower isnan isnormal isprint ispunct isspace isupper j0 j1 jn labs ldexp ldiv lgamma llabs llrint
    llround localtime log log10 log1p log2 logb longjmp lrint lround max memchr memcmp memmove memset min mktime modf nan
    nearbyint nextafter offsetof perror pow printf putc putchar puts qsort raise rand random read realloc remainder
    remove rename rewind rindex rint round scanf select setbuf setvbuf signbit sin sinh sleep snprintf sprintf sqrt srand
    sscanf stderr stdin stdout strcat strchr strcmp strcoll strcpy strcspn strerror strftime strlen strncat strncmp
    strncpy strpbrk strrchr strspn strstr strtod strtok strtol strtoll strtoul strtoull strxfrm system tan tanh tmpfile
    tmpnam trunc ungetc va_arg va_end va_list va_start vprintf vsnprintf write y0 y1 yn
"""
# The decoder's other headers, and what its examples and those of its README define.
_DECODER: Final = """
    console console_instructions console_stack console_write decoder draw example_model hash hash_logits ids instructions
    ks loop main memcpy operators options piece print print_number print_piece prompt seed settings setup status text
    threefry tokens user words
"""
_TAKEN: Final = frozenset(f"{_KEYWORDS} {_HEADERS} {_LIBRARY} {_DECODER}".split())
_PREFIXES: Final = ("ks_", "keras_seq_micro")
_TYPES: Final = re.compile(r"u?int\w*_t|(size|ssize|ptrdiff|time|clock|max_align|wint)_t")


def c_name(name: str) -> str:
    """Returns a name as a C identifier.

    Example:
        >>> c_name("My model.int8"), c_name("384-units")
        ('my_model_int8', 'model_384_units')
    """
    found = re.sub(r"[^A-Za-z0-9]+", "_", name).lower().strip("_")
    return found if found[:1].isalpha() else f"model_{found}".rstrip("_")


def name_of_header(path: Path) -> str:
    """Returns the name in C of the model in a header.

    Raises:
        ArgumentError: `path` is not the name of a header, or its name is taken in C, C++ or the decoder.

    Example:
        >>> name_of_header(Path("models/Shakespeare.h"))
        'shakespeare'
    """
    shown = os.fspath(path)
    require.that(path.suffix == ".h", "path", "the name of a header, which ends with .h", shown)
    name = c_name(path.stem)
    is_free = name not in _TAKEN and not name.startswith(_PREFIXES) and not _TYPES.fullmatch(name)
    require.that(is_free, "path", "a name that is not one of C, C++ or the decoder, such as shakespeare.h", shown)
    return name
