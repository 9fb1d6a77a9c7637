-- Programs of one export change at very different rates, and much of what happens to a row happens at one age (it is locked,
-- it is paid). So the rates of change are learned for each program, by finer ages. The table before, change_rate, stays for
-- processes of an older version and is read by nobody else.
create table impact_mirror.feed_change_rate (
    export     text               not null references impact_mirror.export (name),
    account    text               not null references impact_mirror.account (name),
    program    text               not null,
    changes    double precision[] not null,
    days       double precision[] not null,
    updated_at timestamptz        not null,
    constraint feed_change_rate_pkey primary key (account, export, program),
    constraint feed_change_rate_same_bands check (cardinality(changes) = cardinality(days) and cardinality(days) > 0)
);
comment on table impact_mirror.feed_change_rate is 'How often days of an age still change: what re-reads of complete days found, older ones fading so that about the last 90 days count.';
comment on column impact_mirror.feed_change_rate.program is 'The program; empty where the export is not per program.';
comment on column impact_mirror.feed_change_rate.changes is 'Re-reads that found other rows than the read before, by the age of the day: the first ten entries are ages by the day, the next 27 by three days, the rest by thirty.';
comment on column impact_mirror.feed_change_rate.days is 'Days between those re-reads and the reads before them, by the same ages.';
comment on column impact_mirror.feed_change_rate.updated_at is 'When the newest of these reads was ordered.';
