-- Why: what a read is worth depends on how likely the day has changed. So we keep what each read found against the read
-- before it, day by day and by the age of days; which days are settled because all their rows are locked; and how long a
-- window impact.com takes, where it refused or cut a longer one.

alter table impact_mirror.cell
    add column unchanged_reads integer not null default 0,
    add column changed_at      timestamptz,
    add column locked          boolean not null default false,
    add constraint cell_unchanged_reads_not_negative check (unchanged_reads >= 0),
    add constraint cell_locked_is_loaded check (not locked or loaded_at is not null);
comment on column impact_mirror.cell.unchanged_reads is 'Reads in a row of the complete day that found nothing new; the more, the longer the pause before the next.';
comment on column impact_mirror.cell.changed_at is 'When a read last found other rows than the read before; null where none did.';
comment on column impact_mirror.cell.locked is 'Every row is locked, so that the day is settled whatever the refresh rules say.';

alter table impact_mirror.export add column locked jsonb;
comment on column impact_mirror.export.locked is 'What tells that a row is locked; null where nothing does.';

create table impact_mirror.change_rate (
    export     text             not null references impact_mirror.export (name),
    account    text             not null references impact_mirror.account (name),
    band       smallint         not null,
    changes    double precision not null,
    days       double precision not null,
    updated_at timestamptz      not null,
    constraint change_rate_pkey primary key (export, account, band),
    constraint change_rate_band_known check (band between 0 and 8),
    constraint change_rate_not_negative check (changes >= 0 and days >= 0)
);
comment on table impact_mirror.change_rate is 'How often days of an age still change: what re-reads of complete days found, older ones fading so that about the last 90 days count.';
comment on column impact_mirror.change_rate.band is 'The age of the day at the read: 0 is under a day, 1 is 1 to 2 days, 2 is 3 to 6, and so on doubling; 8 is 255 days and more.';
comment on column impact_mirror.change_rate.changes is 'Re-reads that found other rows than the read before.';
comment on column impact_mirror.change_rate.days is 'Days between those re-reads and the reads before them.';
comment on column impact_mirror.change_rate.updated_at is 'When the newest of these reads was ordered.';

alter table impact_mirror.export_account
    add column max_window_days       integer,
    add column max_window_why        text,
    add column max_window_learned_at timestamptz,
    add constraint export_account_max_window_positive check (max_window_days >= 1),
    add constraint export_account_max_window_says_why check (max_window_days is null or max_window_why is not null),
    add constraint export_account_max_window_learned_says_why check (max_window_learned_at is null or max_window_why is not null);
comment on column impact_mirror.export_account.max_window_days is 'The longest window that is asked for, learned from refusals and cut files; null where the configuration alone says.';
comment on column impact_mirror.export_account.max_window_why is 'impact.com''s words about a longer window. Without max_window_days: words that a single day was refused with too, so that they were not about the length.';
comment on column impact_mirror.export_account.max_window_learned_at is 'When a part of the refused window was loaded, which proved the limit for 90 days, or when a single day disproved it; null while it is on trial.';

-- How many jobs a reading of the job list would bring.
create index remote_job_by_age on impact_mirror.remote_job (account, created_at);
