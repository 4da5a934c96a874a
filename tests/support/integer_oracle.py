"""The integer draw and the integer log-probabilities straight from their definition, in Python's integers and fractions."""

import math
from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction

FORBIDDEN = -(2**15)


def power_table():
    """round(2^30 * 2^(-i / 64)), computed with 60 digits."""
    with localcontext(prec=60):
        return [math.floor(2**30 * Decimal(2) ** (Decimal(-i) / 64) + Decimal("0.5")) for i in range(65)]


TABLE = power_table()


def logit_step(scale):
    return math.floor(scale / math.log(2) * 2**40 + 0.5)


def integers_of(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The settings as C takes them: temperature, top_k, top_p, min_p."""
    return [
        math.floor(temperature * 2**24 + 0.5),
        top_k,
        math.floor(top_p * 2**24 + 0.5),
        math.floor(min_p * 2**24 + 0.5),
    ]


def biased(logits, bias, scale):
    """`bias` has a number for each token; None forbids one."""
    return [
        FORBIDDEN
        if added is None or logit == FORBIDDEN
        else max(-32767, min(32767, logit + (math.floor(added / scale + 0.5) if added else 0)))
        for logit, added in zip(logits, bias, strict=True)
    ]


def weight(difference, step):
    whole, rest = divmod(Fraction(difference * step, 2**40), 1)
    if whole >= 31:
        return 0
    position, between = divmod(rest * 64, 1)
    r = math.floor(between * 2**16)
    return (TABLE[position] - (TABLE[position] - TABLE[position + 1]) * r // 2**16) // 2**whole


def kept(logits, step_of_logits, integers):
    """The weights of the tokens that may be drawn, by id."""
    t, top_k, p, m = integers
    allowed = {id_: q for id_, q in enumerate(logits) if q != FORBIDDEN}
    largest = max(allowed.values())
    if t == 0:
        return {next(id_ for id_, q in allowed.items() if q == largest): 2**30}
    step = min(step_of_logits * 2**24 // t, 2**47)
    if top_k and top_k < len(allowed):
        least = sorted(allowed.values(), reverse=True)[top_k - 1]
        allowed = {id_: q for id_, q in allowed.items() if q >= least}
    known = {q: weight(largest - q, step) for q in set(allowed.values())}
    if p < 2**24:
        needed = math.ceil(Fraction(sum(known[q] for q in allowed.values()) * p, 2**24))
        mass, threshold, numbers = 0, largest, Counter(allowed.values())
        for q in sorted(known, reverse=True):
            threshold, mass = q, mass + known[q] * numbers[q]
            if mass >= needed:
                break
        allowed = {id_: q for id_, q in allowed.items() if q >= threshold}
    return {id_: known[q] for id_, q in allowed.items() if known[q] >= m * 2**6}


def draw(logits, step_of_logits, uniform24, integers):
    return draws(logits, step_of_logits, [uniform24], integers)[0]


def draws(logits, step_of_logits, uniforms, integers):
    weights = kept(logits, step_of_logits, integers)
    return [_first_beyond(weights, sum(weights.values()) * uniform24 // 2**24) for uniform24 in uniforms]


def _first_beyond(weights, target):
    cumulative = 0
    for id_, one in weights.items():
        cumulative += one
        if cumulative > target:
            return id_
    raise AssertionError


def log2(number):
    whole = number.bit_length() - 1
    y = math.floor(Fraction(number, 2**whole) * 2**31)
    digits = []
    for _ in range(24):
        y = y * y // 2**31
        digits.append(y >= 2**32)
        if digits[-1]:
            y //= 2
    return whole * 2**24 + int("".join("01"[digit] for digit in digits), 2)


def costs(logits, step_of_logits, group=()):
    """The cost of each token and that of the group; None if it is impossible."""
    allowed = [q for q in logits if q != FORBIDDEN]
    largest = max(allowed)
    weights = [0 if q == FORBIDDEN else weight(largest - q, step_of_logits) for q in logits]
    total = log2(sum(weights))
    each = [None if q == FORBIDDEN else (largest - q) * step_of_logits // 2**16 + total - 30 * 2**24 for q in logits]
    together = sum(weights[id_] for id_ in group)
    return each, total - log2(together) if together else None


def logits_of(case):
    """The logits of a case of vectors.json: given, or by a formula."""
    if isinstance(case["logits"], list):
        return case["logits"]
    count, factor, modulus, minus = (case["logits"][name] for name in ("count", "factor", "modulus", "minus"))
    return [index * factor % modulus - minus for index in range(count)]
