-- Two roles with as few rights as they can do with: impact_mirror_daemon, which `run` and all other commands but `migrate` use,
-- and impact_mirror_reader, for people and tools that query the tables.
--
-- Whoever runs this owns the schema impact_mirror and keeps applying the migrations: a superuser, or the owner of the database
-- with the right to create roles. In this order:
--
--   1. impact-mirror migrate                          with the owner in database.url
--   2. psql -v ON_ERROR_STOP=1 -d DATABASE -f deploy/sql/roles.sql     as that owner; again at any time, it changes nothing twice
--   3. \password impact_mirror_daemon                 and impact_mirror_daemon into database.url of the daemon
--
-- After an upgrade with new migrations, step 1 comes first; the daemon says so where it was forgotten. Where database.schema
-- is not impact, put its name here instead. A role for a person is `create role ann login in role impact_mirror_reader`.

do $$ begin
    if not exists (select from pg_roles where rolname = 'impact_mirror_daemon') then
        create role impact_mirror_daemon login;
    end if;
    if not exists (select from pg_roles where rolname = 'impact_mirror_reader') then
        create role impact_mirror_reader login;
    end if;
end $$;

-- A belt: it could write nothing anyhow.
alter role impact_mirror_reader set default_transaction_read_only = on;

-- The daemon stages files in temporary tables.
do $$ begin
    execute format('grant connect, temporary on database %I to impact_mirror_daemon', current_database());
    execute format('grant connect on database %I to impact_mirror_reader', current_database());
end $$;

-- The bookkeeping: the daemon changes rows, never tables, and what has been migrated is not its to say.
grant usage on schema impact_mirror to impact_mirror_daemon, impact_mirror_reader;
grant select, insert, update, delete on all tables in schema impact_mirror to impact_mirror_daemon;
revoke insert, update, delete on impact_mirror._sqlx_migrations from impact_mirror_daemon;
grant select on all tables in schema impact_mirror to impact_mirror_reader;
alter default privileges in schema impact_mirror grant select, insert, update, delete on tables to impact_mirror_daemon;
alter default privileges in schema impact_mirror grant select on tables to impact_mirror_reader;

-- The mirrored tables: the daemon makes them, and with them they are its own, for it adds columns and changes types.
create schema if not exists impact;
grant usage, create on schema impact to impact_mirror_daemon;
grant usage on schema impact to impact_mirror_reader;
grant impact_mirror_daemon to current_user;
do $$
declare
    one record;
begin
    -- Those that were made before there was this role.
    for one in
        select format('alter %s %s owner to impact_mirror_daemon',
                      case relkind when 'v' then 'view' else 'table' end, oid::regclass) as statement
        from pg_class
        where relnamespace = 'impact'::regnamespace and relkind in ('r', 'p', 'v')
          and relowner <> 'impact_mirror_daemon'::regrole
        union all
        select format('alter function %s owner to impact_mirror_daemon', oid::regprocedure)
        from pg_proc
        where pronamespace = 'impact'::regnamespace and proowner <> 'impact_mirror_daemon'::regrole
    loop
        execute one.statement;
    end loop;
end $$;
grant select on all tables in schema impact to impact_mirror_reader;
alter default privileges for role impact_mirror_daemon in schema impact grant select on tables to impact_mirror_reader;
-- And what the owner makes there, should it run the daemon itself.
alter default privileges in schema impact grant select on tables to impact_mirror_reader;
