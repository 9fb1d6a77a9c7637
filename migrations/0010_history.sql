-- Superseded versions of rows are kept where an export says so. What was superseded before it did is not known, so the answer
-- to "as known at" is whole from a time on, and this says which.
alter table impact_mirror.export add column history_since timestamptz;
comment on column impact_mirror.export.history_since is 'Since when superseded versions of the rows are kept without a gap; empty where they are not.';
