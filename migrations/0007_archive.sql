-- Why: raw result files are kept in an archive, so that every row leads to the line it came from and files can be loaded
-- again without spending quota. What we wrote there is written down before it is written, so that pruning removes only
-- what is ours, and a load names a file only once that is whole in the archive.

create table impact_mirror.archived_file (
    key          text        not null,
    job_id       bigint      not null references impact_mirror.job (id),
    export       text        not null references impact_mirror.export (name),
    account      text        not null references impact_mirror.account (name),
    program      text        not null,
    from_day     date        not null,
    to_day       date        not null,
    file_sha256  bytea       not null,
    file_bytes   bigint      not null,
    stored_bytes bigint,
    created_at   timestamptz not null,
    used_at      timestamptz not null,
    stored_at    timestamptz,
    manifest_at  timestamptz,
    dropped_at   timestamptz,
    removed_at   timestamptz,
    constraint archived_file_pkey primary key (key),
    constraint archived_file_window_in_order check (from_day <= to_day),
    constraint archived_file_stored_whole check ((stored_at is null) = (stored_bytes is null)),
    constraint archived_file_manifest_after_file check (manifest_at is null or stored_at is not null),
    constraint archived_file_removed_after_dropped check (removed_at is null or dropped_at is not null)
);
comment on table impact_mirror.archived_file is 'The result files written to the archive, each beside a manifest with the same name and .json.';
comment on column impact_mirror.archived_file.key is 'Where it is, under archive.url.';
comment on column impact_mirror.archived_file.job_id is 'The job that fetched it.';
comment on column impact_mirror.archived_file.file_sha256 is 'Of the file as impact.com gave it, as is file_bytes; stored_bytes counts it compressed.';
comment on column impact_mirror.archived_file.used_at is 'When impact.com last gave this file; archive.keep counts from here.';
comment on column impact_mirror.archived_file.stored_at is 'When it was whole in the archive; null while it is written, or waits in the spool because the archive does not take it.';
comment on column impact_mirror.archived_file.dropped_at is 'When it was given up: older than archive.keep, never loaded, or not taken by the archive in time.';
comment on column impact_mirror.archived_file.removed_at is 'When it was removed from the archive.';
create index archived_file_by_window on impact_mirror.archived_file (export, account, program, from_day, to_day, file_sha256);
create index archived_file_by_job on impact_mirror.archived_file (job_id);
create index archived_file_by_use on impact_mirror.archived_file (used_at) where removed_at is null;

-- Nothing has written archive_key before, so that no row stands against it.
alter table impact_mirror.load
    add constraint load_archive_key_fkey foreign key (archive_key) references impact_mirror.archived_file (key);
comment on column impact_mirror.load.archive_key is 'The file in the archive; null where none is kept.';
create index load_by_archive_key on impact_mirror.load (archive_key) where archive_key is not null;

-- A reload is a job whose result comes from the archive. A version that does not know it would fetch the remote job's
-- result instead, which is as good.
alter table impact_mirror.job add column reload_of bigint references impact_mirror.load (id);
comment on column impact_mirror.job.reload_of is 'The load whose archived file is loaded again; null where impact.com was asked.';
create index job_by_reload on impact_mirror.job (reload_of) where reload_of is not null;

create table impact_mirror.reload (
    id            bigint      generated always as identity,
    export        text        not null references impact_mirror.export (name),
    account       text        not null references impact_mirror.account (name),
    program       text        not null,
    from_day      date        not null,
    to_day        date        not null,
    since_load_id bigint      not null,
    started_at    timestamptz not null,
    finished_at   timestamptz,
    constraint reload_pkey primary key (id),
    constraint reload_window_in_order check (from_day <= to_day)
);
comment on table impact_mirror.reload is 'What `reload` was asked for, a row for each account and program; one that was cut short goes on where it stopped.';
comment on column impact_mirror.reload.since_load_id is 'Days whose rows come from a later load are done.';
create unique index reload_one_open on impact_mirror.reload (export, account, program) where finished_at is null;
