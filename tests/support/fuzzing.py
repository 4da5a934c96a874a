"""How long a fuzz test tries: 25 examples, or 1,000 with `--hypothesis-profile=long`."""

from hypothesis import settings

is_long = settings.get_current_profile_name() == "long"
EXAMPLES = 1000 if is_long else 25
fuzzed = settings(max_examples=EXAMPLES)
