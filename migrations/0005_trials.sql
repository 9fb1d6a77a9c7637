-- Why: a limit of windows that is on trial lets only one order of its export go out at a time. Where no part of the refused
-- window ever loads, as with a program that is no longer mirrored, it must end all the same.

alter table impact_mirror.export_account add column max_window_tried_at timestamptz;
comment on column impact_mirror.export_account.max_window_tried_at is 'Since when max_window_days is on trial; after 7 days without a proof it is dropped.';
update impact_mirror.export_account set max_window_tried_at = now()
where max_window_days is not null and max_window_learned_at is null;
