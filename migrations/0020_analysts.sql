-- What the views for analysts are made from: which report an export is, and clicks added up, so that a question about months of
-- clicks does not read them one by one.

alter table impact_mirror.export add column report text;
comment on column impact_mirror.export.report is 'The handle of its report; empty for clicks.';

create table impact_mirror.click_day (
    export        text   not null references impact_mirror.export (name),
    account       text   not null,
    program       text   not null,
    day           date   not null,
    program_id    text,
    program_name  text,
    partner_id    text,
    partner_name  text,
    clicks        bigint not null,
    unique_clicks bigint not null,
    payout        numeric
);
comment on table impact_mirror.click_day is
    'Clicks added up: a row for each export, account, program asked for, day, program and partner of the rows. Every load brings its window up to date in its own transaction.';
comment on column impact_mirror.click_day.program is 'The program that was asked for, as in _program of the mirrored table; empty for all at once.';
comment on column impact_mirror.click_day.unique_clicks is 'Clicks that impact.com counts as unique.';
create index click_day_window on impact_mirror.click_day (export, account, program, day);
create index click_day_day on impact_mirror.click_day (day);

create table impact_mirror.click_rollup (
    export     text        not null references impact_mirror.export (name),
    definition text        not null,
    missing    bigint      not null,
    filled_at  timestamptz not null,
    constraint click_rollup_pkey primary key (export)
);
comment on table impact_mirror.click_rollup is
    'The exports whose clicks are in click_day, and how they were added up: where that changes, all of it is done anew.';
comment on column impact_mirror.click_rollup.missing is
    'How many rows of cells were not in the table when it was added up. Where that is another number now, somebody loads without adding up, such as an older version, and all of it is done anew.';
