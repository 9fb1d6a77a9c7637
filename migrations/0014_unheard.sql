-- Why: until impact.com has answered an account once, nobody knows its clock, so that no charge may end by ours alone: a clock
-- that jumps would allow a day's orders twice. The ledger of restatements says how many rows came, changed and went. And claims
-- take less where many jobs are under way.

create or replace function impact_mirror.bucket_room(of_account text, of_bucket text, at_time timestamptz)
returns table (
    ceiling     integer,
    used        integer,
    ledger_room integer,
    seen_room   integer,
    seen_until  timestamptz,
    reserve     integer,
    room        integer,
    opens_at    timestamptz,
    first_ends  timestamptz,
    clock_may_tell boolean
) language plpgsql stable as $$
declare
    b impact_mirror.bucket;
    a impact_mirror.account;
    margin    constant interval := interval '65 seconds';
    tick      constant interval := interval '5 minutes';
    is_daily  boolean;
    believes  boolean;
    is_unheard boolean;
    patience  bigint;
    own_used  integer;
    own_first timestamptz;
    later     integer;
    is_asking boolean;
begin
    select * into b from impact_mirror.bucket o where o.account = of_account and o.bucket = of_bucket;
    if not found then return; end if;
    select * into a from impact_mirror.account o where o.name = of_account;
    is_daily := b.window_length > interval '1 hour';
    believes := a.remote_clock is not null and a.ticks - a.remote_clock_tick <= 12;
    is_unheard := a.remote_clock is null and a.ticks = 0;
    patience := 2 * extract(epoch from b.window_length)::bigint / extract(epoch from tick)::bigint;

    ceiling := b."limit";
    if b.seen_at is not null and at_time < b.seen_at + b.window_length then
        ceiling := least(ceiling, greatest(floor(b.seen_limit * b.share)::integer, 1));
        seen_until := coalesce(b.seen_resets_at, b.seen_at + case when is_daily then interval '1 hour' else tick end);
    end if;

    select coalesce(sum(c.cost) filter (where c.ours), 0),
           coalesce(sum(c.cost) filter (where c.ours or c.theirs), 0),
           min(c.at) filter (where c.ours),
           coalesce(sum(c.cost) filter (where c.id > b.seen_charge_id), 0),
           coalesce(bool_or(c.id > b.seen_charge_id and c.at >= greatest(seen_until, at_time - margin)), false)
    into own_used, used, own_first, later, is_asking
    from (
        select h.id, h.at, h.cost,
               h.at + b.window_length + margin > at_time
                   or (is_daily and ((h.at + margin) at time zone a.time_zone)::date >= (at_time at time zone a.time_zone)::date)
                   as ours,
               is_unheard or believes
                   and a.ticks - h.tick <= patience
                   and (h.remote_at is null
                        or h.remote_at + b.window_length > a.remote_clock
                        or (is_daily
                            and (h.remote_at at time zone a.time_zone)::date >= (a.remote_clock at time zone a.time_zone)::date))
                   as theirs
        from impact_mirror.charge h
        where h.account = of_account
          and h.bucket = of_bucket
          and h.cost > 0
          and (is_unheard or h.at > at_time - b.window_length - interval '1 hour' - margin
               or (believes and (h.remote_at is null or h.remote_at > a.remote_clock - b.window_length - interval '1 hour')))
    ) c;

    reserve := case when believes and not is_daily and ceiling >= 10 then greatest(ceiling / 50, 1) else 0 end;
    ledger_room := greatest(ceiling - reserve - used, 0);
    if seen_until is not null then
        seen_room := greatest(b.seen_remaining - later, 0);
        if seen_room = 0 and at_time >= seen_until and not is_asking then
            seen_room := 1;
        end if;
    end if;
    room := case when b.closed_until > at_time then 0 else least(ledger_room, seen_room) end;
    clock_may_tell := own_used < ceiling - reserve and ledger_room = 0 and ceiling > reserve;
    first_ends := own_first + b.window_length + margin;
    if room = 0 then
        opens_at := greatest(
            case when b.closed_until > at_time then b.closed_until end,
            case when clock_may_tell then greatest(a.clock_asked_at + tick, at_time) when ledger_room = 0 then first_ends end,
            case when seen_room = 0 then greatest(seen_until, at_time + margin) end,
            at_time + interval '1 second');
    end if;
    return next;
end
$$;
comment on function impact_mirror.bucket_room(text, text, timestamptz) is
    'How many calls of a bucket are left at a time, and why: the one place that says so. '
    'A charge counts until its window is over by our clock, 65 s later, the longest a request is under way, and by impact.com''s clock, '
    'where its answers carry a Date; daily charges until the account''s day is over too, which may have 25 hours. '
    'A Date that stands still is believed for two windows of ticks; one that is missing for an hour of ticks is not waited for. '
    'Until an account has been answered for the first time no charge ends. '
    'ceiling: our limit, lowered by the headers; ledger_room: left by our count; seen_room: left by the headers, null where they say '
    'nothing; after seen_until one call at a time is allowed until they speak again. reserve: requests kept for reading '
    'impact.com''s clock. room: what may be called now. clock_may_tell: only impact.com''s clock holds the bucket shut.';

create or replace view impact_mirror.restatement as
select r.load_id, l.export, l.account, l.program, l.from_day, l.to_day, r.column_name, r.rows_changed, r.sum_before, r.sum_after,
       l.rows_inserted, l.rows_updated, l.rows_deleted
from impact_mirror.restated_column r
join impact_mirror.load l on l.id = r.load_id;
comment on column impact_mirror.restatement.rows_inserted is 'Rows that the load brought, whatever their column holds.';
comment on column impact_mirror.restatement.rows_updated is 'Rows that the load changed.';
comment on column impact_mirror.restatement.rows_deleted is 'Rows that the load found gone.';

-- Jobs change their state often and are looked for by it: of the many versions of a row none but the last is to be looked at.
create index job_under_way on impact_mirror.job (account)
    where finished_at is null and state in ('submitting', 'waiting', 'ready', 'loading');
alter table impact_mirror.job set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

-- A type may be changed ahead of the load that needs it, which then has no row yet.
alter table impact_mirror.retyped_column
    drop constraint retyped_column_pkey,
    alter column load_id drop not null,
    add column id bigint generated by default as identity,
    add column export text references impact_mirror.export (name),
    add constraint retyped_column_pkey primary key (id);
update impact_mirror.retyped_column r set export = l.export from impact_mirror.load l where l.id = r.load_id;
create index retyped_column_by_load on impact_mirror.retyped_column (load_id);
comment on table impact_mirror.retyped_column is 'Columns that got another type: a wider one, or the first one where no value had been seen before (from text).';
comment on column impact_mirror.retyped_column.load_id is 'The load that changed it; null where it was changed ahead of a load, while the table was read as ever.';
comment on column impact_mirror.retyped_column.export is 'The export, as in the configuration; null only where a program of an earlier version wrote it.';
