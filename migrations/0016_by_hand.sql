-- Why: people act on the mirror, by the status page and by commands, and afterwards somebody asks who did what. And they pause an
-- export or an account for reasons of their own: that is another pause than the one for a refused credential, for what is in flight goes
-- on to its end and no probe ends it.

create table impact_mirror.audit (
    id      bigint      generated always as identity,
    at      timestamptz not null default now(),
    actor   text        not null,
    action  text        not null,
    target  text        not null,
    details jsonb       not null default '{}',
    result  text        not null,
    constraint audit_pkey primary key (id)
);
comment on table impact_mirror.audit is 'What people did by hand, by the status page and by commands; written in the transaction that did it.';
comment on column impact_mirror.audit.actor is 'Who: the page with the address that asked, or the command line with the user of the operating system.';
comment on column impact_mirror.audit.action is 'refresh, backfill, retry, cancel, pause or resume.';
comment on column impact_mirror.audit.target is 'What it was done to, as in: export clicks, account acme, job 12.';
comment on column impact_mirror.audit.result is 'What it came to, in words.';

alter table impact_mirror.account
    add column ordering_paused_since timestamptz,
    add column ordering_paused_by text,
    add constraint account_ordering_paused_says_who check ((ordering_paused_since is null) = (ordering_paused_by is null));
comment on column impact_mirror.account.ordering_paused_since is 'Since when nothing new is ordered on it, for somebody said so by hand; what is in flight goes on.';
comment on column impact_mirror.account.ordering_paused_by is 'Who said so.';

alter table impact_mirror.export
    add column ordering_paused_since timestamptz,
    add column ordering_paused_by text,
    add constraint export_ordering_paused_says_who check ((ordering_paused_since is null) = (ordering_paused_by is null));
comment on column impact_mirror.export.ordering_paused_since is 'Since when nothing new of it is ordered, for somebody said so by hand; what is in flight goes on.';
comment on column impact_mirror.export.ordering_paused_by is 'Who said so.';
