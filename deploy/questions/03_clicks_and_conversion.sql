-- Title: How many clicks become actions, partner by partner?
-- One row is a partner, over the days of which both clicks and actions are mirrored.
with days as (
    select greatest((select min(_day) from impact.clicks), (select min(_day) from impact.actions)) as first,
           least((select max(_day) from impact.clicks), (select max(_day) from impact.actions)) as last
), clicks as (
    select media_name as partner, count(*) as clicks
    from impact.clicks, days
    where _day between days.first and days.last
    group by 1
), actions as (
    select media_partner as partner, count(*) as actions
    from impact.actions, days
    where status <> 'REVERSED' and _day between days.first and days.last
    group by 1
)
select
    partner,
    coalesce(clicks, 0) as clicks,
    coalesce(actions, 0) as actions,
    round(100.0 * coalesce(actions, 0) / nullif(clicks, 0), 2) as conversion_in_percent
from clicks
full join actions using (partner)
order by clicks desc, partner
