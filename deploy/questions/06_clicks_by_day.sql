-- Title: How many clicks were there each day, and how many of them unique?
-- One row is a day in the zone of the account.
select _day as day, count(*) as clicks, count(*) filter (where unique_click) as unique_clicks
from impact.clicks
group by 1
order by 1
