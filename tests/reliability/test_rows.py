"""Bad inputs and faults, by number: what each is, what it must meet, and the tests that try it.

A test in this folder is of the rows that its name gives (`test_row_17_...`). Tests that stand elsewhere are named here:
file, name, and cases of its parameters.
"""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from places import ROOT

SAFE, HDF5, MSGPACK = (
    "tests/formats/test_safetensors.py",
    "tests/formats/hdf5/test_file.py",
    "tests/formats/msgpack/test_file.py",
)
TORCH, ATTACKS = "tests/formats/torch/test_file.py", "tests/formats/torch/test_attacks.py"
OPENING, HOLDING, SAVING, STAGING = (
    f"tests/checkpoints/test_{name}.py" for name in ("opening", "holding", "saving", "staging")
)
KINDS, CONFIG, LINEAR = "tests/formats/test_kinds.py", "tests/config/test_base.py", "tests/test_linear.py"
CODE, SNAPSHOT, FAULTS, LOADING = (
    f"tests/hub/test_{name}.py" for name in ("remote_code", "snapshot", "faults", "loading")
)
PLAN, SURGERY, EDITS = "tests/weights/test_plan.py", "tests/weights/test_surgery.py", "tests/commands/test_edits.py"
REFUSED, LAXER = "test_bad_safetensors_is_refused", "test_what_the_library_lets_pass_is_refused"
BAD, TENSOR = "test_bad_files_are_refused", "test_a_tensor_lies_inside_its_storage"
ZIP, BOMB = "test_zip_directories_are_checked", "test_a_pickle_cannot_take_much_memory_or_time"
CODE_NEVER_RUNS, OPCODES = "test_code_is_refused_by_name_and_never_runs", "test_opcodes_are_checked"
LASTS = "test_lasting_faults_become_clear_errors_and_leave_no_trace"

ROWS: dict[int, tuple[str, tuple[tuple[str, ...], ...]]] = {
    # safetensors
    1: ("a file of 0 or 7 bytes: truncated", ((SAFE, REFUSED, "empty", "seven bytes"),)),
    2: ("a header of 2^63 or 100,000,001 bytes: corrupt", ((SAFE, REFUSED, "length 2^63", "length beyond limit"),)),
    3: ("a header longer than its file: truncated", ((SAFE, REFUSED, "length beyond file"),)),
    4: ("cut at any byte: truncated", ((SAFE, "test_every_truncation_is_refused"), (SAFE, REFUSED, "data short"))),
    5: ("bytes after the end: corrupt", ((SAFE, REFUSED, "data long"),)),
    6: ("holes, overlaps, reversed, negative, float and huge offsets: corrupt",
        ((SAFE, REFUSED, "hole", "overlap", "reversed", "negative", "float offset", "huge integer"),)),
    7: ("one name twice: corrupt", ((SAFE, REFUSED, "duplicate tensor"), (SAFE, LAXER, "a tensor twice"))),
    8: ("a key of the metadata twice, two metadata: corrupt", ((SAFE, REFUSED, "duplicate metadata"),)),
    9: ("a shape whose product wraps: corrupt", ((SAFE, REFUSED, "wrapping product"),)),
    10: ("shape [0, 2^62]: limit", ((SAFE, REFUSED, "huge dimension", "rank"), (HDF5, BAD, "axis", "axes"))),
    11: ("millions of tensors: limit", ()),
    12: ("deep nesting, NaN, half a character, no UTF-8, zeros: corrupt",
         ((SAFE, REFUSED, "deep", "nan", "not utf-8"),
          (SAFE, "test_what_the_library_refuses_is_refused_in_its_words"))),
    13: ("dtypes unknown, or that a framework lacks: unsupported",
         ((SAFE, REFUSED, "unknown dtype"), (SAFE, LAXER, "a dtype that numpy lacks"))),
    14: ("names that are empty, paths or long: strings, within a limit", ((SAFE, REFUSED, "long name"),)),
    15: ("a pointer of Git LFS, a web page, a file of another kind: corrupt, with a hint",
         ((SAFE, "test_wrong_contents_are_recognised"),)),
    16: ("a FIFO, device, folder or socket: unsupported, at once",
         ((SAFE, "test_fifo_and_folder_are_refused_without_blocking"),)),
    17: ("a sparse file of 1 TiB: parts are read, the whole is a limit", ()),
    18: ("truncated after it was opened: changed", ((HOLDING, "test_a_file_that_is_held_and_written_to_is_noticed"),)),
    19: ("overwritten in place: what is read is not", ((HOLDING, "test_what_is_opened_is_what_is_read"),)),
    # values of a save
    20: ("arrays that are not contiguous: right values",
         ((SAFE, "test_arrays_survive_a_file_bit_for_bit", "transposed", "fortran", "stepped", "reversed"),
          (SAFE, "test_arrays_survive_a_file_bit_for_bit", "broadcast"))),
    21: ("a tensor called __metadata__, or by no text: save error", ((SAVING, "test_the_reserved_name_is_refused"),)),
    22: ("objects, text, records, deleted arrays: refused", ((SAVING, "test_object_arrays_are_refused"),)),
    23: ("tied weights: saved once, tied again",
         (("conformance/test_own_classes.py", "test_ties_of_own_classes_are_derived_alike"),
          ("conformance/test_files.py", "test_a_tied_weight_stored_twice_stays_tied"))),
    24: ("NaN: bit for bit", ((SAFE, "test_arrays_survive_a_file_bit_for_bit", "nan"),)),
    25: ("big-endian arrays: right values", ((SAFE, "test_arrays_survive_a_file_bit_for_bit", "big endian"),)),
    # files of torch
    26: ("os.system, in every container and protocol: unsafe",
         ((ATTACKS, CODE_NEVER_RUNS, "os.system", "STACK_GLOBAL", "text protocol"),)),
    27: ("other ways to code: unsafe",
         ((ATTACKS, CODE_NEVER_RUNS, "through the memo", "getattr", "pickle in pickle", "persistent id"),
          (ATTACKS, OPCODES))),
    28: ("items set on a list, a state built on a tensor: refused", ((ATTACKS, OPCODES),)),
    29: ("any version of torch: it reads nothing", ((TORCH, "test_opening_and_reading_import_no_framework"),)),
    30: ("tar, gzip, 7z: unsupported",
         ((TORCH, "test_tar_archives_are_refused_with_the_way_to_save_them_again"),)),
    31: ("an archive that was deflated: inflated", ((TORCH, "test_a_repacked_archive_is_inflated"),)),
    32: ("a zip bomb: limit, in little memory", ((ATTACKS, "test_zip_bombs_are_refused_before_inflating"),)),
    33: ("records twice, over each other, of other names, encrypted, zip64 that lies, a prefix: corrupt",
         ((ATTACKS, ZIP, "local name", "encrypted", "offset inside another", "two names for one record", "prefix"),
          (ATTACKS, "test_two_records_of_one_name_are_refused"), (ATTACKS, "test_zip64_fields_are_read_and_checked"))),
    34: ("a flipped bit, a checksum: corrupt",
         ((ATTACKS, "test_no_changed_byte_of_an_archive_changes_a_value"),
          (ATTACKS, "test_a_record_of_another_checksum_is_refused_unless_it_has_none"))),
    35: ("a storage that is missing, short, of 2^62 or negative: corrupt",
         ((ATTACKS, TENSOR, "no such storage", "larger storage announced", "storage of 2^62", "negative storage"),)),
    36: ("sizes, strides and offsets outside the storage: corrupt",
         ((ATTACKS, TENSOR, "offset", "stride", "negative stride", "wrapping end", "negative length"),)),
    37: ("a tensor of 2^40 elements over 16 bytes: limit",
         ((ATTACKS, "test_expanded_tensors_cannot_unfold_into_large_memory"),)),
    38: ("sparse tensors: unsupported", ((TORCH, "test_other_kinds_of_tensors_are_refused_by_name"),)),
    39: ("bytes after the end of the pickle: corrupt", ((ATTACKS, "test_bytes_behind_the_pickle_are_refused"),)),
    40: ("lists within themselves, deep tuples, lengths of 2^31: refused",
         ((ATTACKS, BOMB, "cycle", "deep", "integer of 2^31", "text of 2^32"),)),
    41: ("big-endian: swapped; junk: corrupt", ((TORCH, "test_big_endian_archives_are_swapped"),)),
    42: ("wrapped state dicts, values that are no tensors: known or refused",
         ((TORCH, "test_a_state_dict_may_be_wrapped"), (TORCH, "test_no_single_state_dict_is_refused"))),
    # HDF5
    43: ("external and soft links, dangling, in a loop: unsafe",
         ((HDF5, BAD, "external link", "soft link", "dangling soft link", "soft link loop"),)),
    44: ("data in another file: unsafe", ((HDF5, BAD, "external storage"),)),
    45: ("a virtual dataset: unsafe", ((HDF5, BAD, "virtual dataset"),)),
    46: ("8 PiB in 1,400 bytes, unallocated, compressed 1:959: refused",
         ((HDF5, BAD, "8 PiB never written", "4 GiB never written", "gzip bomb"),)),
    47: ("a cycle of links, deep groups: refused", ((HDF5, BAD, "hard link cycle", "deep"),)),
    48: ("other types: unsupported", ((HDF5, BAD, "ragged", "reference", "compound", "opaque", "null"),)),
    49: ("lists of names that are missing, wrong, twice, split",
         ((HDF5, BAD, "no names", "absent", "listed twice", "empty name", "weight elsewhere"),
          (HDF5, "test_long_lists_are_split_as_keras_splits_them"))),
    50: ("truncated, with a prefix, with a tail, with filters: refused",
         ((HDF5, "test_what_is_no_whole_file_is_refused", "prefix", "trailing byte"), (HDF5, BAD, "lzf", "fletcher"),
          (HDF5, "test_every_truncation_is_refused"), (HDF5, "test_user_blocks_are_refused"))),
    51: ("a config with code in it: not looked at", ()),
    # msgpack
    52: ("cut, with a tail, deep, lengths of 2^32-1: refused",
         ((MSGPACK, "test_every_truncation_is_refused"), (MSGPACK, BAD, "trailing byte", "deep", "map of 2^32-1"))),
    53: ("dtypes of objects, text, records, times: unsupported",
         ((MSGPACK, BAD, "M8[ns]", "object", "V4", ">f4"),)),
    54: ("impossible shapes: corrupt", ((MSGPACK, BAD, "negative axis", "rank", "axis a string", "shape longer"),)),
    55: ("keys twice, of other types, two ways to a name: corrupt",
         ((MSGPACK, BAD, "duplicate key", "integer key", "two ways to one name"),)),
    56: ("unknown extensions, times, chunks with a gap: corrupt",
         ((MSGPACK, BAD, "unknown ext", "timestamp", "chunk gap", "chunks in a list"),)),
    57: ("millions of lists: refused", ((MSGPACK, BAD, "list of empty lists", "many entries"),)),
    # indexes
    58: ("shards that lead elsewhere: unsafe", ((OPENING, "test_an_index_cannot_lead_elsewhere"),)),
    59: ("links out of the folder: unsafe; those of a cache: not",
         ((OPENING, "test_a_shard_that_is_a_link_out_is_refused"),
          (OPENING, "test_a_hub_snapshot_links_to_its_blobs"))),
    60: ("missing shards: all listed", ((OPENING, "test_all_missing_shards_are_listed"),)),
    61: ("a shard of another format: unsafe", ((OPENING, "test_an_index_cannot_lead_elsewhere"),)),
    62: ("no weight_map, an empty one, no JSON: corrupt", ((OPENING, "test_a_bad_index_is_corrupt"),)),
    63: ("an index and shards that disagree: inconsistent", ((OPENING, "test_an_index_must_agree_with_its_shards"),)),
    64: ("a wrong size, very many names, names that differ in case", ()),
    65: ("a single file and an index, several formats: one order",
         ((KINDS, "test_safetensors_win_then_the_own_format_then_any"),)),
    66: ("shards of two saves: inconsistent", ((OPENING, "test_shards_of_two_saves_are_not_mixed"),)),
    # configs
    67: ("no object, no UTF-8, deep, huge integers, keys twice: config error",
         ((CONFIG, "test_a_bad_config_is_one_config_error"),)),
    68: ("impossible values, and models without end: config error",
         ((CONFIG, "test_any_value_of_any_key_is_taken_or_refused_by_a_config_error"),
          (CONFIG, "test_a_schema_without_end_is_refused"))),
    69: ("names of code: kept as data",
         ((CONFIG, "test_a_config_is_data"), (CODE, "test_untrusted_code_is_named_and_never_run"))),
    70: ("names of methods: kept as data", ((CONFIG, "test_a_key_with_a_name_of_python_is_kept"),)),
    71: ("a name of thousands of underscores: no more than its length", ()),
    # conversion, resizing, pruning
    72: ("a shape that differs at the last tensor: refused before the first",
         ((PLAN, "test_wrong_shapes_are_refused_or_ignored"),
          ("conformance/test_transfer.py", "test_damage_is_refused_and_names_everything"))),
    73: ("sizes of 0, below, 2^31; all heads, unknown heads: refused",
         ((SURGERY, "test_a_vocabulary_larger_than_the_memory_is_refused_before_anything_is_read"),
          (CONFIG, "test_layers_to_prune_are_counted_from_the_end_too"))),
    74: ("a conversion that is killed, onto its source: nothing lost",
         ((EDITS, "test_the_source_is_never_the_destination"),
          (EDITS, "test_damage_is_status_1_and_leaves_the_destination"))),
    # the Hub
    75: ("other bytes of the same size: an error, and not kept", ((SNAPSHOT, LASTS, "get flipped"),)),
    76: ("short, long, cut off, a web page: an error, and nothing half",
         ((SNAPSHOT, LASTS, "get short", "get long", "get cut"), (SNAPSHOT, "test_answers_that_are_none"))),
    77: ("hashes and commits that are paths: unsafe",
         ((SNAPSHOT, "test_an_etag_that_is_a_path_is_refused"),
          (SNAPSHOT, "test_another_commit_than_the_one_asked_for_is_refused"))),
    78: ("a cache that was emptied or altered: fetched again, or told",
         ((SNAPSHOT, "test_a_damaged_cache_is_mended_online_and_told_offline"),
          (SNAPSHOT, "test_a_damaged_reference_is_no_commit"))),
    79: ("names of repositories and files that lead elsewhere: refused",
         ((SNAPSHOT, "test_what_is_no_name_of_a_repository"), (SNAPSHOT, "test_wrong_options"))),
    80: ("two processes fetch at once: both whole",
         ((SNAPSHOT, "test_two_processes_load_at_once_into_a_cold_cache"),
          (FAULTS, "test_two_processes_load_at_once_into_one_cold_cache"))),
    81: ("a branch that moves meanwhile: one commit", ((FAULTS, "test_a_push_in_between_never_mixes_two_versions"),)),
    82: ("offline, refused, missing, busy: errors of their own; a token goes to the Hub alone",
         ((SNAPSHOT, LASTS, "look-up 401", "head 404", "look-up 429", "look-up 500"),
          (SNAPSHOT, "test_offline_is_no_request"),
          ("tests/test_security.py", "test_row_82_a_token_goes_to_the_hub_alone"))),
    # faults of a save
    83: ("killed at any step: the old or the new",
         ((STAGING, "test_killed_saves_leave_the_old_or_the_new_checkpoint"),
          (STAGING, "test_killed_saves_of_a_variant_leave_config_and_weights_together"))),
    84: ("a full disk at any write: the old, and nothing of the new", ()),
    85: ("EIO, EDQUOT at any call: a save error of this number", ()),
    86: ("no more files: a save error", ()),
    87: ("a folder that cannot be written, or read: errors with their reason",
         ((STAGING, "test_a_read_only_folder_is_refused_and_unchanged"),)),
    88: ("a source that cannot be written: loads, and nothing is", ()),
    89: ("two savers and a reader: each load is of one save",
         ((STAGING, "test_savers_and_a_reader_at_once"), (HOLDING, "test_loads_beside_savers_see_one_save_each"))),
    90: ("saved over what is mapped: readers keep the old",
         ((HOLDING, "test_a_map_outlives_its_file_and_is_given_back"),)),
    91: ("all pairs of formats, shards and variants: the last save loads",
         ((SAVING, "test_the_last_save_wins_and_nothing_else_changes"),
          (SAVING, "test_variants_do_not_disturb_each_other"),
          (STAGING, "test_a_variant_that_is_called_like_files_of_a_save_is_refused"))),
    92: ("saved into the folder it was loaded from: right", ((STAGING, "test_saving_over_the_folder_that_is_mapped"),)),
    93: ("umask, modes and groups: obeyed and kept",
         ((SAVING, "test_new_files_obey_the_umask"), (STAGING, "test_a_save_keeps_the_mode_of_what_it_replaces"))),
    94: ("links, FIFOs and folders in the place of files: replaced, or a save error",
         ((STAGING, "test_a_fifo_in_the_place_of_a_staging_folder_blocks_nothing"),)),
    95: ("locks that do nothing, stale handles: one whole result",
         ((STAGING, "test_saves_where_locks_do_nothing"), (STAGING, "test_names_that_another_save_takes_first"))),
    96: ("what kills left: ignored, and collected", ((STAGING, "test_a_planted_record_deletes_nothing"),)),
    97: ("interrupts: tidied up, nothing lost", ()),
    98: ("threads and forks: nothing shared is changed", ()),
}  # fmt: skip


@cache
def cases_of(file: str) -> dict[str, set[str]]:
    """Return the tests of a module, and each text in it, which may be what a case is called."""
    tree = ast.parse((ROOT / file).read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {node.name: texts for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@cache
def tried_here() -> set[int]:
    files = (ROOT / "tests/reliability").glob("test_*.py")
    names = [name for file in files for name in cases_of(str(file.relative_to(ROOT)))]
    found = [re.match(r"test_rows?_((?:\d+_(?:and_)?)+)", name) for name in names]
    return {int(number) for match in found if match for number in re.findall(r"\d+", match[1])}


@pytest.mark.parametrize("row", range(1, 99))
def test_a_row_is_tried(row: int) -> None:
    title, elsewhere = ROWS[row]
    assert title and (elsewhere or row in tried_here())
    for file, name, *cases in elsewhere:
        found = cases_of(file)
        assert name in found, f"{file} has no {name}"
        assert found[name] >= set(cases), f"{name} has no case {sorted(set(cases) - found[name])}"


def test_there_are_98_rows() -> None:
    assert sorted(ROWS) == list(range(1, 99)) and tried_here() <= set(ROWS)
