-- Title: What do new and existing customers buy?
-- One row is a status of customers, over all days that are mirrored.
select
    customer_status,
    count(*) as actions,
    sum(sale_amount) as sale_amount,
    round(avg(sale_amount), 2) as average_sale
from impact.actions
where status <> 'REVERSED'
group by 1
order by actions desc
