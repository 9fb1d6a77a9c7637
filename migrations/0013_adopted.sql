-- An order whose reply was lost is taken to be a remote job of its type, program and time that nobody knows. That may be
-- another client's, which only its file can tell; so the job remembers how it came by its remote job.
alter table impact_mirror.job add column adopted boolean not null default false;
comment on column impact_mirror.job.adopted is 'Whether its remote job was found in the list, for the reply to the order was lost: it may be the order of somebody else.';
