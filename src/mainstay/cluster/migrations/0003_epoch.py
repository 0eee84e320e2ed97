# Whose the database is.

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("cluster", "0002_placement"),
    ]

    operations = [
        migrations.CreateModel(
            name="Epoch",
            fields=[
                ("id", models.IntegerField(primary_key=True, serialize=False)),
                ("epoch", models.BigIntegerField()),
                ("site_id", models.CharField(max_length=26)),
                ("site_name", models.CharField(max_length=255)),
                ("site_url", models.CharField(max_length=2048)),
                ("since_ms", models.BigIntegerField()),
            ],
            options={
                "db_table": "cluster_epoch",
            },
        ),
    ]
