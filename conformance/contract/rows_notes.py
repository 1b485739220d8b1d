"""Rows of the contract that other tests show, and words for porters on rows that work."""

from __future__ import annotations

from walk import state

OF_THE_HUB = (
    "2.54 2.56 2.74 4.1 4.2 4.4 4.5 4.6 4.7 4.8 4.9 4.10 4.11 4.12 4.13 4.16 4.21 4.22 4.23 4.24 4.25 "
    "4.26 5.4.69 5.5.2 5.5.8 5.5.10 5.5.11 5.5.12 5.5.13 5.6.5 6.77 6.83 6.93 7.41 7.48 9.4 9.6 11.38"
).split()
for _number in OF_THE_HUB:
    state(_number, "tests/hub shows it, against a hub of its own", **{"pt": "Y"} if _number == "2.74" else {})
for _number, _note in {
    "1.4": "", "1.11": "", "1.13": "and triptych_save_id, which other readers pass over", "1.20": "", "1.22": "",
    "1.28": "SaveError, where v4 logged and returned", "2.53": "at once or not at all; unknown arguments are refused",
    "2.68": "a bad value changes nothing", "2.83": "an error, where v4 made a config of defaults",
    "4.15": "CommitInfo, which is a str", "4.37": "with a warning where the class is of __main__, which has no file",
    "5.1.18": "a reader of its own, which runs nothing", "5.4.86": "those of torch",
    "5.5.41": "for the auto classes; here, as in v4, it has nothing to do", "5.5.61": "in shards too", "5.5.70": "",
    "5.5.80": "an ArgumentError that lists the dtypes", "5.5.104": "mismatched_keys with both shapes, as in 4.48 and 5",
    "5.6.14": "in the file; the config in memory stays as it is", "5.6.31": "docs/architecture.md, \"A save\"",
    "5.8.1": "", "6.69": "where v4 raised NotImplementedError", "6.75": "Keras's own, with the output's loss",
    "6.77": "every argument of the other frameworks; tests/hub shows it", "6.91": "", "6.94": "of files of PyTorch too",
    "6.100": "", "6.104": "a policy of Keras, by torch_dtype too", "6.105": "", "6.108": "",
    "7.34": "the mask goes by paths", "7.47": "it is copied", "7.49": "of files of PyTorch too", "7.55": "", "7.59": "",
    "7.67": "", "9.8": "of param_dtype; dtype is the policy in Keras, where 'auto' is none",
   
    "8.30": "", "8.31": "", "8.36": "", "8.45": "",
    "8.47": "with param_dtype='auto'; else float32, with a warning",
    "8.50": "", "11.16": "", "11.18": "", "11.21": "safetensors in all three", "11.43": "", "11.44": "", "11.45": "",
    "11.46": "nor are weights of other formats (1.27)", "11.47": "", "11.48": "", "11.49": "", "11.51": "", "11.52": "",
    "11.53": "", "11.54": "",
}.items():  # fmt: skip
    state(_number, _note)


# -- section 4: what needs a Hub is shown by tests/hub/test_pushing.py


for number, note in {
    "4.2": "", "4.3": "None never saves into a folder that happens to be there", "4.12": "", "4.13": "",
    "4.14": "ignore_metadata_errors: a card that cannot be read is left as it is, with a warning",
    "4.17": "library_name: triptych; tags are added to a card that is there",
    "4.18": "a folder named like the repository with use_temp_dir=False only",
    "4.19": "all files that the save wrote, in one commit; the Hub stores none twice",
    "4.20": "by the rule of 1.27, within the commit", "4.21": "", "4.23": "", "4.24": "", "4.25": "",
}.items():  # fmt: skip
    state(number, note or "tests/hub shows it, against a hub of its own", pt="Y")
