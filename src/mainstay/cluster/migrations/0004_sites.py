# The sites, their certificates, and what a join token is for.

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("cluster", "0003_epoch"),
    ]

    operations = [
        migrations.AddField(
            model_name="jointoken",
            name="kind",
            field=models.CharField(db_default="node", default="node", max_length=8),
        ),
        migrations.CreateModel(
            name="Site",
            fields=[
                ("id", models.CharField(max_length=26, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=63, unique=True)),
                ("kind", models.CharField(max_length=8)),
                ("mode", models.CharField(max_length=8)),
                ("delay_s", models.IntegerField()),
                ("patterns", models.TextField()),
                ("sites_address", models.CharField(max_length=255)),
                ("database_address", models.CharField(max_length=255)),
                ("url", models.CharField(max_length=2048)),
                ("state", models.CharField(max_length=8)),
                ("added_ms", models.BigIntegerField()),
                ("feed", models.CharField(max_length=26)),
                ("position", models.BigIntegerField()),
                ("acknowledged_ms", models.BigIntegerField()),
            ],
            options={
                "db_table": "cluster_site",
            },
        ),
        migrations.CreateModel(
            name="SiteCertificate",
            fields=[
                ("serial", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("site_id", models.CharField(db_index=True, max_length=26)),
                ("issued_ms", models.BigIntegerField()),
                ("expires_ms", models.BigIntegerField()),
                ("revoked_ms", models.BigIntegerField()),
            ],
            options={
                "db_table": "cluster_site_certificate",
            },
        ),
    ]
