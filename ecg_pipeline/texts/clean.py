"""A text on an ECG as its source has it -> the words on the ECG alone, in lower case, and their language.

Data sets hold more than that: names of who confirmed a text, dates, comparisons with ECGs that nobody can see, and in
PTB-XL codes that its curators wrote into the text.
"""

import re
import unicodedata

ENGLISH, GERMAN, SWEDISH, UNKNOWN = "en", "de", "sv", "unknown"

LANGUAGES = (ENGLISH, GERMAN, SWEDISH)
"""Languages of texts and prompts."""

_TO_THE_END = (
    # PTB-XL: what its curators wrote, as a rule the codes that are its labels.
    r"\bedit\s*:",
    # What follows speaks of another ECG, or of people.
    r"\b(?:when\s+)?compared\s+(?:with|to)\s+(?:the\s+)?ecgs?\s+(?:of|from)\b",
    r"\b(?:un)?(?:confirmed|referred|reviewed|signed|ordered|interpreted|over-?\s?read|edited|verified|requested)\s+by\b",
)
"""Beginnings of what is cut up to the end of a text."""

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_CUT = (
    # A version, blanks and "unconfirmed report"; PTB-XL ends texts after 255 characters, also within these words.
    r"(?:\d+[.,]\d+\s+)?\bunbestätigter\s+bericht\b",
    r"\d+[.,]\d+(?:\s{5,}unb\w*(?:\s+\w*)?|\s+)$",
    r"\bstatement\s+text\s*\(\s*\d*\s*\)",
    r"</?\w+>",
    rf"(?<!\w)\d{{1,2}}[-\s]{_MONTH}[-\s,]+\d{{2,4}}\b,?",
    rf"\b{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}\b,?",
    r"(?<!\w)\d{4}([-/.])\d{1,2}\1\d{1,2}\b,?",
    r"(?<!\w)\d{1,2}([-/.:])\d{1,2}\2(?:\d{4}|\d{2})\b,?",
    r"(?<!\w)\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]m)?\b,?",
)
"""What is cut out of a text: remarks of a cart's program, statements that it did not spell out, dates and times, and
what would be read as a special token."""

_NO_TEXT = ("trace only requested",)
"""What stands in place of a text that nobody wrote."""

_END = re.compile("|".join(_TO_THE_END))
_PIECES = re.compile("|".join(_CUT))
_WORD = re.compile(r"[^\W\d_]+")

_WORDS = {
    ENGLISH: (
        "and are arrhythmia be beat beats block borderline bradycardia branch bundle conduction consider consistent "
        "depressed deviation due early enlargement fibrillation flattening flutter hypertrophy inverted is it lead "
        "leads left limb limits may no of old otherwise paced pacemaker possible premature probable probably "
        "prolonged rate rhythm right segment segments slightly tachycardia the there this to tracing undetermined "
        "voltage voltages wave waves with within"
    ),
    GERMAN: (
        "abnorm abnormale abnormales abnorme abnormes alt arrhythmie auf bei bradykardie der die ersatzrhythmus "
        "extrasystole extrasystolen grenzbefund hebung hemiblock indifferenztyp infarkt inferiorer ischämie kein "
        "keine lagetyp leitungsstörung linksanteriorer linksbelastung linkshypertrophie linkslagetyp "
        "linksschenkelblock linkstyp mit mittellagetyp möglich nicht niederspannung normales oder pathologisches "
        "rechtsschenkelblock rechtstyp rhythmus schrittmacher senkung sinusarrhythmie sinusbradykardie "
        "sinusrhythmus sinustachykardie sonst steiltyp tachykardie typ ueberdrehter unbest und unspezifische "
        "unspezifisches unvollständiger ventrikuläre verdacht von vorhofflattern vorhofflimmern wahrscheinlich "
        "zeichen über überdrehter"
    ),
    SWEDISH: (
        "amplituder avvikande axel belastning bradykardi bör el eljest eller ensidig extremitetsavledningarna "
        "fladder flimmer frekvens förlopp förmaksfladder förmaksflimmer förmaksrytm förändring förändringar "
        "hypertrofi höger höjning inkomplett ischemi kammarhypertrofi låga lågvoltage myokardskada normalt och "
        "ospecifik ospecifikt rytm sannolikt sinusbradykardi sinusrytm sinustakykardi skänkelblock skänkelbock som "
        "sänkning såsom takykardi vid vänster vänstersidig åldersobestämd överväg övervägas"
    ),
}
_LANGUAGE_OF = {word: language for language, words in _WORDS.items() for word in words.split()}
"""Words that occur in texts of one language only."""


def clean(text: str) -> str | None:
    """The words on the ECG alone, normalised and with single blanks; None if nothing was said of it."""
    text = unicodedata.normalize("NFC", text).lower()
    if found := _END.search(text):
        text = text[: found.start()]
    text = " ".join(normalise(_PIECES.sub(" ", text)).split()).replace(" ,", ",").strip(" ,;")
    return text if _WORD.search(text) and text.strip(" .") not in _NO_TEXT else None


def normalise(text: str) -> str:
    """A text or prompt as D-BETA's authors normalise it: lower case, "ecg" for "ekg", without stars and lines of "=-".

    A blank beside a removed line stays, as in the released code.
    """
    text = text.lower().strip().replace("ekg", "ecg")
    for characters in ("* ", " *", "*", "=-", "="):
        text = text.strip(characters)
    return text


def language_of(text: str) -> str:
    """Language of a cleaned text, "en", "de" or "sv", by which of them most of its words are of; else "unknown"."""
    counts = dict.fromkeys(_WORDS, 0)
    for word in _WORD.findall(text):
        if language := _LANGUAGE_OF.get(word):
            counts[language] += 1
    best, second = sorted(counts.values(), reverse=True)[:2]
    return max(counts, key=lambda language: counts[language]) if best > second else UNKNOWN
