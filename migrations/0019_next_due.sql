-- When an export's next planned job is due is asked for whenever there is nothing to do: without reading the backlog.
create index job_planned_due on impact_mirror.job (account, export, run_at) where state = 'planned';
