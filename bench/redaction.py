"""Redaction: a text without the secrets of the environment, and without what looks like one.

Three layers. Values of environment variables whose name says that they are secret, wherever they
stand. Values that the text itself names: `password=X`, `"token": "X"`, `--api-key X`, headers,
passwords in URLs; a name of many meanings (key, token, pass) does so only together with a value
that is no number or truth value. Tokens known by their looks: AKIA…, ghp_…, PEM keys.
A `secret_sauce=1` stays: the secret would be the last word of the name.

Every pattern starts at a word of its own and is bounded or consumes what it has read, so that the
time grows with the length of the text alone.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote, quote_plus

HIDDEN = "***"
LONG = 8  # characters; a shorter value is hidden as a whole word alone

# -- what the environment keeps secret -------------------------------------------------------------

_LAST = (
    r"PASSW(?:OR)?D|PASSPHRASE|PASSCODE|TOKEN|SECRET|CREDENTIALS?|API_?KEY|ACCESS_?KEY|COOKIE|"
    r"WEBHOOK|AUTHORIZATION|CONN(?:ECTION)?_?STR(?:ING)?|(?:SSH|DB|PG)PASS|"
    r"(?:(?<=_)|(?<![A-Z_0-9]))(?:PASS|PWD|KEY|PAT|DSN|JWT|SAS|AUTH|BEARER)"
)
_MORE = (
    r"(?:_?V?\d+|_(?:URL|URI|PEM|VALUE|STRING|CONFIG|HEADER|B64|BASE64|PROD|DEV|STAGING|OLD|NEW))*"
)
SECRET = re.compile(rf"(?:{_LAST}){_MORE}", re.IGNORECASE)
PLACES = frozenset({"PWD", "OLDPWD"})
ORDINARY = frozenset(  # they protect nothing, and to hide them would shred a text
    """true false none null auto yes no on off default test train training valid validation data
    seed seeds root admin user guest local localhost demo dummy example public private password
    pass secret token key name email model epoch epochs loss accuracy baseline treatment bench
    experiment mlflow mlruns sqlite postgres postgresql mysql redis basic bearer cuda digits run
    runs report store error warning info debug value values changeme anonymous metric metrics
    score scores label labels mean time date index file path host port""".split()
)


@lru_cache(maxsize=8)
def _values(secrets: tuple[str, ...]) -> Callable[[str], str]:
    """Return what hides these values, in every form in which a text may hold them."""
    anywhere, words = set[str](), set[str]()
    for value in secrets:
        encoded = value.encode("utf-8", "surrogatepass")
        forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
        forms |= {repr(value)[1:-1], quote(encoded, safe=""), quote(encoded), quote_plus(encoded)}
        (anywhere if len(value) >= LONG else words).update(forms)
        if len(value) >= LONG:
            anywhere |= {base64.b64encode(encoded).decode(), *_lines(value)}
    patterns = [re.escape(form) for form in sorted(anywhere, key=len, reverse=True)]
    patterns += [
        rf"(?<!\w){re.escape(form)}(?!\w)" for form in sorted(words, key=len, reverse=True)
    ]
    if not patterns:
        return str
    pattern = re.compile("|".join(patterns))
    return lambda text: pattern.sub(HIDDEN, text)


def _lines(value: str) -> set[str]:
    """Return the lines of a value that has several: a log shows one at a time."""
    lines = value.splitlines()
    return {line for line in lines if len(line.strip()) >= 2 * LONG} if len(lines) > 1 else set()


@lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    return name not in PLACES and bool(re.search(rf"(?:{SECRET.pattern})$", name, re.IGNORECASE))


def _tells_something(value: str) -> bool:
    """Whether a value is no word, number or folder that an ordinary text holds too."""
    if len(value) < 4 or value.lower() in ORDINARY:
        return False
    if re.fullmatch(r"[\d.,+-]+", value):
        return len(value) > 4 and not value.endswith("00") and "." not in value
    return not (value.startswith(("/", "~")) and os.path.exists(os.path.expanduser(value)))


# -- what a text itself calls a secret -------------------------------------------------------------

_SURE = (
    r"passw(?:or)?d|passphrase|passcode|secret|credentials?|connection[_-]?string|conn[_-]?str|"
    r"(?:api|access|secret|private|account|storage|shared|master|encryption|signing|client|license|"
    r"subscription|service|session|ssh|deploy|auth|app)[_-]?key|webhook(?:[_-]?ur[li])?"
)
_VOCABULARY = ("pad", "eos", "bos", "cls", "sep", "unk", "mask", "class", "next", "stop", "start",
               "end", "image", "first", "last", "special", "unexpected", "dist", "register",
               "query", "separator", "blank")  # fmt: skip
_NO_TOKEN = "".join(rf"(?<!{word}[_ -]token)" for word in _VOCABULARY)
_UNSURE = (  # which have other meanings too
    rf"token{_NO_TOKEN}|pass(?:(?<![a-z_-]pass)|(?<=db_pass)|(?<=user_pass)|(?<=smtp_pass))|"
    r"pwd(?<![a-z0-9]pwd)|jwt(?<![a-z]jwt)|bearer(?<![a-z]bearer)|auth(?<![a-z]auth)|"
    r"session_?id|cookie(?<![a-z]cookie)"
)
_EQUALS = r"""\\{0,8}["']?\s{0,3}(?:=>|:=|==?|:|%3[ad])\s{0,3}"""
_BARE = r"""(?:(?!%26)[^\s"'&,;<>)}\]\\]|\\(?!["'\\ntr]))+"""
_QUOTED = r"""b?(?P<quote>\\{0,8}["'])(?:(?!(?P=quote))(?:\\.|[^\n]))+"""
NAMED = re.compile(
    rf"(?P<name>(?=[abcdejlmpstw])(?:(?P<sure>{_SURE})|(?P<unsure>{_UNSURE}))[_-]?\d{{0,2}}{_EQUALS})"
    rf"(?P<value>{_QUOTED}|{_BARE})",
    re.IGNORECASE,
)
ENVIRONMENT = re.compile(  # DB_PASS=X, as a shell or a printed environment shows it
    rf"(?P<name>(?<=[A-Z0-9]_)(?P<unsure>KEY|PASS|PAT|DSN|SAS|AUTH){_EQUALS})"
    rf"(?P<value>{_QUOTED}|{_BARE})"
)
OPTION = re.compile(
    rf"(?P<name>(?<=-)(?:{_SURE}|token|pass)\s{{1,3}})(?P<value>(?!-){_QUOTED}|(?!-){_BARE})",
    re.IGNORECASE,
)
HEADER = re.compile(
    r"""(?P<name>(?:authorization|cookie)\\{0,8}["']?\s{0,3}[:=,]\s{0,3})"""
    rf"""(?P<value>{_QUOTED}|[^\n"'\\]+)""",
    re.IGNORECASE,
)
STEMS = ("pass", "pwd", "key", "token", "secret", "auth", "cookie", "cred", "conn", "webhook",
         "bearer", "basic", "jwt", "session", "_pat", "_dsn", "_sas")  # fmt: skip
NOTHING = re.compile(
    r"true|false|none|null|yes|no|\(?\*\*\*.*|\$\{?\w+\}?|\{\w*\}|<\w+>", re.I | re.S
)
NUMBER = re.compile(r"[-+]?[\d.]{1,12}(?:e[-+]?\d{1,3})?", re.IGNORECASE)


def _hide_value(match: re.Match[str]) -> str:
    """Hide what follows a name, unless it says only that there is none."""
    groups = match.groupdict()
    mark, value = match["quote"] or "", match["value"]
    shown = value.removeprefix("b") if mark else value
    lead = value[: len(value) - len(shown)] + mark
    plain = shown[len(mark) :]
    if NOTHING.fullmatch(plain.strip()):
        return match[0]
    if groups.get("unsure") and _is_ordinary(match, plain):
        return match[0]
    return f"{match['name']}{lead}{HIDDEN}"


def _is_ordinary(match: re.Match[str], value: str) -> bool:
    name = match["unsure"].lower()
    if NUMBER.fullmatch(value) or (name == "pwd" and value[:1] in "/~"):
        return True
    prose = not match["quote"] and re.search(r":\s", match["name"]) is not None
    return prose and name in ("token", "pass", "bearer", "auth") and value.isalpha()


# -- addresses, and tokens by their looks ----------------------------------------------------------

_PORT = re.compile(r"""\d+(?:[/?#\s"',;)\]}]|$)""")
URL = re.compile(r"""://((?:(?![,;][a-z]{1,20}://)[^\s"'<>])+)""", re.IGNORECASE)
ENCODED_URL = re.compile(r"(%3A%2F%2F[^%\s]{0,200}%3A)(?:(?!%40|%2F%2F)\S){1,2000}(?=%40)", re.I)
QUERY = re.compile(
    r"([?&#;][^=&?#;\s]{0,60}(?:passw(?:or)?d|pwd|token|secret|(?:api|access|account)key|"
    r"(?<![a-z])key|(?<![a-z])sig|signature)=)[^&\s\"']+",
    re.IGNORECASE,
)
HOOKS = re.compile(
    r"(hooks\.slack\.com/(?:services|workflows)/|/api/webhooks/)[^\s\"'<>]+", re.IGNORECASE
)
BASIC = re.compile(r"(\bbasic\s+)([A-Za-z0-9+/_-]{6,}={0,2})", re.IGNORECASE)
BEARER = re.compile(r"(\bbearer\s+)(?=[^\s\"']{0,80}[\d._~+/=-])[^\s\"',;]{8,}", re.IGNORECASE)
TAG = re.compile(r"(<(?:password|passwd|secret|token|apikey|api_key)>)[^<\s]+", re.IGNORECASE)
PAIR = re.compile(r"(\bauth\s?=\s?\()[^)\n]+", re.IGNORECASE)
NETRC = re.compile(r"(?<=\s)(login\s+\S{1,200}\s+password\s+)\S+", re.IGNORECASE)
PEM = re.compile(
    r"(?:-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\A[A-Za-z0-9+/=\s\\]*(?=-----END))"
    r".*?(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
LOOKS = re.compile(
    r"""(?<![A-Za-z0-9_-])(?:
      (?:AKIA|ASIA)[A-Z0-9]{16}
    | gh[pousr]_[A-Za-z0-9]{16,}
    | github_pat_\w{16,}
    | glpat-[\w-]{16,}
    | hf_(?=[a-zA-Z]{0,40}\d|[A-Za-z]{30})[A-Za-z0-9]{16,}
    | xox[abeoprs]-[\w-]{10,} | xapp-[\w-]{10,}
    | sk-(?=[A-Za-z_-]{0,40}\d)[\w-]{16,}
    | [sr]k_(?:live|test)_\w{10,}
    | AIza[\w-]{30,}
    | ya29\.[\w-]{16,}
    | npm_[A-Za-z0-9]{30,}
    | pypi-AgE[\w-]{16,}
    | SG\.[\w-]{16,200}\.[\w-]{16,}
    | eyJ[\w-]{8,4000}\.eyJ[\w-]{4,}\.[\w-]*
    )""",
    re.VERBOSE,
)


def _hide_userinfo(match: re.Match[str]) -> str:
    """Hide user:password@ and https://token@, but not host:5000/path@2."""
    rest = match[1]
    before, at, after = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    if not at:
        return match[0]
    if colon and not re.search(r"[/?#@]", user):
        port = _PORT.match(rest, len(user) + 1)
        return match[0] if port else f"://{user}:{HIDDEN}@{after}"
    scheme = match.string[max(0, match.start() - 5) : match.start()].lower()
    if scheme.endswith(("http", "https")) and not re.search(r"[/?#]", before):
        return f"://{HIDDEN}@{after}"
    return match[0]


def _hide_basic(match: re.Match[str]) -> str:
    """Hide what is user:password in base64, and leave the basic training of a model."""
    try:
        plain = base64.b64decode(match[2] + "=" * (-len(match[2]) % 4), validate=True)
    except (binascii.Error, ValueError):
        return match[0]
    return f"{match[1]}{HIDDEN}" if b":" in plain else match[0]


def without_passwords(text: str) -> str:
    """Return an address without its passwords: the same text whatever the environment holds."""
    text = URL.sub(_hide_userinfo, text)
    text = ENCODED_URL.sub(rf"\1{HIDDEN}", text)
    return QUERY.sub(rf"\1{HIDDEN}", text)


def redacted(text: str) -> str:
    """Return a text without secrets; what is hidden reads ***."""
    secrets = {
        value
        for name, value in os.environ.items()
        if _names_a_secret(name) and _tells_something(value)
    }
    text = _values(tuple(sorted(secrets)))(text)
    text = PEM.sub(HIDDEN, text)
    text = without_passwords(text)
    text = "".join(map(_without_named, text.splitlines(keepends=True)))
    return LOOKS.sub(HIDDEN, HOOKS.sub(rf"\1{HIDDEN}", text))


def _without_named(line: str) -> str:
    """Return a line without the values that it names; most lines name none, and cost nothing."""
    plain = line.lower()
    if not any(stem in plain for stem in STEMS):
        return line
    for pattern in (BEARER, TAG, PAIR, NETRC):
        line = pattern.sub(rf"\1{HIDDEN}", line)
    for pattern in (HEADER, NAMED, ENVIRONMENT, OPTION):
        line = pattern.sub(_hide_value, line)
    line = BASIC.sub(_hide_basic, line)
    return line
