//! Hostile bytes for everything that reads them: each target feeds one reader with bytes that a peer, a
//! disk or a user may have written, and fails by a panic. The targets are plain functions, so the same
//! table serves the smoke run on any machine, the replay of the corpus, and libFuzzer.

pub mod mutate;
pub mod smoke;
mod targets;

/// A function that must not panic, whatever the bytes are.
pub type Target = fn(&[u8]);

/// Every target under the name of its corpus folder; `README.md` says what each one holds.
pub const TARGETS: &[(&str, Target)] = &[
    ("diode_announcement", targets::diode::announcement),
    ("diode_intake", targets::diode::intake),
    ("diode_journal_row", diode::fuzzing::journal_row),
    ("diode_kept_file", diode::fuzzing::kept_file),
    ("diode_ledger_row", diode::fuzzing::ledger_row),
    ("diode_page", targets::diode::page),
    ("diode_records", targets::diode::records),
    ("diode_stream", targets::diode::stream),
    ("diode_symbols", targets::diode::symbols),
    ("diode_trust_line", targets::diode::trust_line),
    ("diode_want_list", targets::diode::want_list),
    ("files_path", targets::files::path),
    ("files_staging_map", targets::files::staging_map),
    ("haul_address", targets::haul::address),
    ("inbox_dync_key_file", targets::inbox::dync_key_file),
    ("inbox_dync_machine", targets::inbox::dync_machine),
    ("inbox_dync_message", targets::inbox::dync_message),
    ("inbox_manifest", inbox::fuzzing::manifest),
    ("inbox_metadata", inbox::fuzzing::metadata),
    ("inbox_offer", inbox::fuzzing::offer),
    ("inbox_records", inbox::fuzzing::records),
    ("inbox_schema", inbox::fuzzing::schema),
    ("inbox_sidecar", inbox::fuzzing::sidecar),
    ("link_authorized_keys", targets::link::authorized_keys),
    ("link_dial_target", targets::link::dial_target),
    ("link_identity_pem", targets::link::identity_pem),
    ("link_key_line", targets::link::key_line),
    ("link_known_hosts", targets::link::known_hosts),
    ("link_repair_symbols", link::fuzzing::repair_symbols),
    ("link_pipe_frames", link::fuzzing::pipe_frames),
    ("link_pipe_greetings", link::fuzzing::pipe_greetings),
    ("link_tcp_frames", link::fuzzing::tcp_frames),
    ("link_tcp_records", link::fuzzing::tcp_records),
    ("link_wire", targets::link::wire),
    ("transfer_go", targets::transfer::go),
    ("transfer_opening", targets::transfer::opening),
    ("transfer_packed", transfer::fuzzing::packed),
    ("transfer_parcel_head", targets::transfer::parcel_head),
    ("transfer_patches", targets::transfer::patches),
    ("transfer_receipt", targets::transfer::receipt),
    ("transfer_report", targets::transfer::report),
    ("transfer_source_message", targets::transfer::source_message),
    ("transfer_target_machine", targets::transfer::target_machine),
    ("transfer_target_message", targets::transfer::target_message),
    ("tree_filter_patterns", targets::tree::filter_patterns),
    ("tree_globs", targets::tree::globs),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
