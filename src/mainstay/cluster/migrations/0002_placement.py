# Which label a repository asks for.

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("cluster", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Placement",
            fields=[
                ("repository_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("label", models.CharField(max_length=63)),
            ],
            options={
                "db_table": "cluster_placement",
            },
        ),
    ]
