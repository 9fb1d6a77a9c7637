-- Title: Which part of the sales is reversed, week by week?
-- One row is a week, by the day of the action. Young weeks still have pending actions, so that their part goes on to rise.
select
    date_trunc('week', _day)::date as week,
    count(*) as actions,
    count(*) filter (where status = 'REVERSED') as reversed,
    count(*) filter (where status = 'PENDING') as pending,
    round(100.0 * count(*) filter (where status = 'REVERSED') / count(*), 2) as reversed_in_percent
from impact.actions
group by 1
order by 1
